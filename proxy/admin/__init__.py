"""The admin API: what control knows, over HTTP, for the command, for Prometheus and for people.

routes     the one route table          server     listening, and what every call passes through
handlers   of apps and requests         overview   of the gateway as a whole       common   for both
views      state to JSON shapes         verdict    up, degraded or down, in a line
answers    a question to an answer      facts      what an answer rests on
guard      token, peer, Host, Origin    query      parameters, read or refused     errors   the one error shape
routing    what a route is              openapi    the table, described            keys     what handlers find
"""
