"""Metrics: one table of all there are, what they are of late second by second, and what they were. Start at table.py.

table      the metrics: id, kind, unit, meaning      families    what Prometheus sees of them
rings      the last 15 minutes, second by second     ring        one of them: compact, in blocks
query      a question, answered from rings or points buckets     values into steps of time
frame      what /metrics shows, of one moment        exposition  the text of it
exemplars  request ids for its histograms
own        Triage's own processes, and the host      docs        docs/metrics.md
"""
