"""The `triage` command: what people type, and what it prints.

command   all verbs, put together                         group    verbs by section, one way to fail
start     serve and run, until the launcher takes over    check    is this config good?
observe   status, requests, why, reload                   status, requests   how these two print
find      which gateway: options, environment, sockets    client   the admin API over TCP or a Unix socket
show      tables, times and figures for people
"""
