"""The worker: bytes from client to instance and back. Start reading at exchange.py.

exchange    one request and its response        client    the connection it came on: framing, keep-alive, tunnels
app         routes, limits and queue of an app  upstream  a connection to an instance: framing, reuse
instance    slots, pool, what was learned       balance/  which instance
adaptive    slots that follow what an instance can take
answers     what Triage answers itself          retries   whether a request is sent again
listen      accepting: TCP, TLS, PROXY          wheel     one timer wheel for all deadlines
worker      the table in force, shared state    link      control's messages, in and out
account     counts and record of a finished request
recorder    what becomes of a request's record  access_log, rotation: its lines, and old files of them
spans       traces, while they are exported     tally, ids, buckets, guard: counts, ids, rate limit, own overload

Policy is plain and takes `now`; sockets are touched in client, upstream and listen only. No asyncio streams, and a task
only where waiting has no callback (connecting, accepting with PROXY).
"""
