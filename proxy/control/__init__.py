"""Control: the process that decides everything. Start reading at gateway.py.

run         entry and loop                 gateway     the root object: what admin reads and calls
state       what is known, as dataclasses  lifecycle   one transition table for instances
supervisor  an app's pool of instances     process     one started instance: spawn, watch, stop
health      probes                         ejection    who gets no requests for a while (pure)
routing     state to routing table (pure)  workers     spawn, tables and acknowledgements, silence
fate        how a process ended, and why   sampling    one /proc sweep a second for all trees
ports       free ports, who listens where  dns         addresses by name
reload      a new config, applied as data  ledger      what a new control starts from
launcher    the launcher's client          output      what instances print
records     kept requests, in memory       counters    workers' counts, summed      exposition  /metrics
"""
