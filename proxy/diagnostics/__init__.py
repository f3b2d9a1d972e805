"""Why a request ended so, or how an app is: from facts to one screen of text; and evidence, gathered and saved.

The first part is pure: nothing in it asks anybody.

facts    what may be known, as plain values      why     facts to blocks: the whole answer
causes   what each fault means, one row each     text    blocks to 30 lines of 96 columns

collect      the session's process: runs collectors   collectors/  each one file, from an instance to an artifact
artifacts    what they gather, typed                  subject      what it is about, as control wrote it
proc         reading /proc
"""
