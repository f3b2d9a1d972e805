"""The admin API: what control knows, over HTTP, for the command, for Prometheus and for people.

routes     the one route table          server     listening, and what every call passes through
examples   answers, shortened           routing    what a route is                 openapi  the table, described
handlers   of apps and requests         overview   of the gateway as a whole       common   for all handlers
acts       asked, foreseen, begun       operations how acts go on                  events   listed and followed
views      state to JSON shapes         mending    of operations and by hand       times    in all of them
answers    a question to an answer      facts      what an answer rests on         verdict  up, degraded or down
upgrade    asked and foreseen           inside/    one instance, gateway, host: looked into; a process ended
guard      token, peer, Host, Origin    query      parameters, read or refused     fields   of a call's content
callers    who calls, calls under way   tokens     made, kept, revoked             logins   cookies and links
access     routes of tokens             audit      what was done and tried         tries    wrong ones, by address
login      in and out with a browser    tls        of the listener
keys       what handlers find           errors     the one error shape
console/   files, commands, terminals
"""
