"""The `triage` command: what people type, and what it prints.

command    all verbs, put together                        group      verbs by section, one way to fail
start      serve and run, until the launcher takes over   check      is this config good?
observe    status, requests, why, reload                  status, requests, story   how these print
top, logs, events, metrics, exceptions, incidents         what happens, and what happened
alerts     what somebody is told of; mute                 autoheal   rules, and how far each is from a firing
acts       restart, recycle, scale, …                     operations begun, followed, listed
diagnose   a session, followed                            sessions   listed, saved: report
inside     environment, stacks, profile, memory-dump      processes  the tree; kill
files      below the gateway's roots: ls, get, put, …     tokens     token, whoami
executing  a command there, its output here               terminal   a terminal there; consoles lists them
opening    the dashboard in a browser                     upgrade    the code on disk takes over
find       which gateway: options, environment, sockets   client     the admin API over TCP, TLS or a Unix socket
naming     APP, APP/INSTANCE, INSTANCE                    following  what is followed over a new control
watching   --watch                                        completing what the shell completes
show       tables, times and figures for people           facts      how facts print whose names are the gateway's
wording    the API's hints, as one types them             docs       docs/cli.md
"""
