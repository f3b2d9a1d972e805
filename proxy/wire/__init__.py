"""HTTP on the wire: pure functions and small values over httptools; no I/O, no clock.

request     a request head: validated, understood, rewritten   response   the same for responses
chunked     the chunked coding, strictly                       hosts      authorities, targets, routing by host and path
forwarding  X-Forwarded-*, Forwarded, Via                      proxy_protocol   PROXY v1 and v2
"""
