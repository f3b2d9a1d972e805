"""The agent, inside an app's interpreter: standard library only, any CPython from 3.8 on; relative imports alone.

begin      installs it                        report     sites, counts, and what is told of them
raised     3.12 and later: sys.monitoring     rewrite    before: marks in the app's own modules as they are imported
hooks      excepthooks and logging            listen     its one thread: tells counts, answers questions; forks
largest    objects by type

Always true:
  - what fails in here is swallowed and counted, never seen by the app;
  - what it holds is bounded, and what it could not count is counted as such.
"""
