"""Looking inside a process while it runs: from its folder in /proc to JSON shapes. Nothing of it is stopped or changed.

opened     one process, held by its folder       processes  one line each, and their share of the CPU
process    one of them whole                     threads    where each stands
files      its descriptors                       sockets    its connections, and who is at the other end
around     the machine, the gateway, cgroups     deeper     what takes a process of its own: versions, stacks

All of it is for threads, or for processes of their own: what is read may hang, as a network file system does. What may
not be read is said in `notes`, and left out. Whatever came from outside is made harmless: one line, no control
characters, secrets masked.
"""
