"""The launcher: the process that must not die. It holds sockets, children, output, ledger; control decides.

__main__   entry: plan in, exit code out          launcher   start, signals, time, end: start reading here
loop       waits for descriptors and moments      control    control's start, silence, death and messages
children   spawned, reaped, their leftovers ended child      fork and exec, told step by step
store      descriptors by name                    sockets    one plain bind, then a socket per worker slot
requests   what control may ask for               restarts   when control is started again (pure)
record     the lock and launcher.json             processes  reading /proc, ending what is left over
journal    log lines that never block                 handover   the same process with newer code
keeper     a process of its own: keeps one program that control was asked to run
Standard library only, one thread, no policy; imports units and link.spawn, nothing else of ours.
"""
