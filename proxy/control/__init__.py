"""Control: the process that decides everything. Start reading at gateway.py.

run         entry and loop                 gateway     the root object: what admin reads and calls
state       what is known, as dataclasses  lifecycle   one transition table for instances
supervisor  an app's pool of instances     pool        how many to start, whom to let go (pure)
instance    what both kinds share          process     one started instance: spawn, watch, stop
address     one given instance             command     its arguments, environment, place to listen
shared      what the parts have in common  adopt       what a new control finds, made into state
fates       answers to "has it ended?"     names       numbers and rows, never given twice
stacks      py-spy, bounded                version     of an app, and of its process table
health      probes                         ejection    who gets no requests for a while (pure)
routing     state to routing table (pure)  workers     spawn, tables and acknowledgements, silence
fate        how a process ended, and why   sampling    one /proc sweep a second for all trees
limits      memory and CPU of an instance  cgroups     where cgroups may be made, and their files
scaling     what its rules want (pure)     scaler      rules at work, once a second
watch       watched files to restarts      files       which files match, and what they are like
ports       free ports, who listens where  dns         addresses by name
log         Triage's own, never blocking
reload      a new config, applied as data  ledger      what a new control starts from
launcher    the launcher's client          logs/       what instances print, and the app's log files
store/      what happened, on disk         sessions/   diagnostic runs, evidence before an act
records     kept requests, in memory       counters    workers' counts, summed
metrics/    second by second, over time, and for Prometheus
inside/     which processes an instance is, and one of them ended by hand
console/    commands and terminals that a person asks for
"""
