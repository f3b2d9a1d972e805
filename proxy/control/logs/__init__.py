"""Logs: what instances print and what the app writes into its own log files, line by line.

```
lines       a line, its number and its form in a file      forms         how tracebacks and panics look, by runtime
capture     reads the pipes of one instance, on the loop    entries       lines that belong together, in a thread
follow      follows the app's own files, in a thread        fingerprint   what an entry is: type, frames, id
writer      one thread that writes all files                exceptions    the groups of each app, counted
recent      the newest batches, for who follows             search        newest first, in files and memory
book        puts it together: `gateway.logbook`
```

A line has a number: microseconds since the epoch, at least the last one + 1, over all instances. The file's time stamp
is that number, so it survives restarts and is known of every line in every file.

Nothing is re-exported: a search is a process of its own at times, and loads no more than it needs.
"""
