"""Why a request ended so, or how an app is: from facts to one screen of text. Pure; nothing here asks anybody.

facts    what may be known, as plain values      why     facts to blocks: the whole answer
causes   what each fault means, one row each     text    blocks to 30 lines of 96 columns
"""
