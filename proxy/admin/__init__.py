"""The admin API: what control knows, over HTTP, for the command, for Prometheus and for people.

routes     the one route table          server     listening, and what every call passes through
handlers   one function a route         guard      who may ask: token, socket's peer, Host, Origin
views      state to JSON shapes         errors     one error shape        query     parameters, read or refused
facts      what an answer rests on      openapi    the table, described   verdict   up, degraded or down, in a line
"""
