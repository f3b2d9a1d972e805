"""The `triage` command: what people type, and what it prints.

command   all verbs, put together                         group    verbs by section, one way to fail
start     serve and run, until the launcher takes over    check    is this config good?
observe   status, requests, why, reload                   status, requests   how these two print
acts      restart, recycle, scale, …                      operations         begun, followed, listed
events    what happened, and what happens                autoheal rules, and how far each is from a firing
upgrade   the code on disk takes over
find      which gateway: options, environment, sockets    client   the admin API over TCP or a Unix socket
show      tables, times and figures for people
"""
