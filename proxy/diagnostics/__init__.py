"""Why a request ended so, or how an app is: from facts to one screen of text; and evidence, gathered and saved.

The first part is pure: nothing in it asks anybody.

facts    what may be known, as plain values      why     facts to blocks: the whole answer
causes   what each fault means, one row each     text    blocks to 30 lines of 96 columns

session      a session's process, stage by stage      gather       its collectors: which, when, what came of each
forks        work in a process with limits            known        what control knew before and after, as one
subject      what a collector is told                 artifacts    what they gather, typed
collectors/  each one file, to an artifact            runtimes/    stacks and profiles, by the app's language
proc         reading /proc                            pages, core  memory of a process, and as a file
inside/      one running process, looked into by hand
"""
