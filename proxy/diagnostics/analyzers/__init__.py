"""Analyzers: each one file, from artifacts to findings. ANALYZERS is all of them.

contract   what an analyzer is, sees and says
say, stats, threads, situation   what several of them share: words, numbers, stacks, harm
slow_dependency  a peer that answers slowly, or can't be reached; names that resolve slowly
pool_exhausted   threads wait for a connection that others hold
locks            deadlocks, and locks that are held too long
event_loop       one call holds up all requests of a process
cpu              a hot function, the global lock, a request without end, throttling
slow_handler     requests at one line, slow paths, time limits
capacity         slots, queue, workers: traffic, limits, one path
slow_clients     slots held by slow readers, uploads, streams
clients          a noisy client, a retry storm
change           when it began, and which change was beside it
one_instance     one instance fails or waits, others do not
host             the machine's CPU, memory, disks
gateway_load     the gateway's own
slow             what is left: slow answers, clients that gave up, warm-up
last_words, endings, symptoms, server_words   likewise: what was printed last, how a process ended, what texts say
exits            instances that end by themselves: exceptions, crashes, memory, signals
crash_loop       they end again and again
children         workers of the app's own server that end
suspects         a kind of request that was there each time
starting, not_ready   instances that do not become ready: they end, or run on
health           a health check that says the wrong thing
connecting       refused, full accept queues, no way
names            names that do not resolve
closing          idle connections, no answer, half an answer
malformed        what is not HTTP
tls              handshakes and certificates
app_errors       5xx of the app's own: the exception, or the peer that it names
storage          full disks
descriptors      descriptors of the app
memory           on its way to the limit, at it, in jumps
gateway          the gateway's descriptors, ports, defects, disk
by_hand          stopped, held, none wanted, taken out, refused
limits           requests that a limit or routing turned away
ejected          taken out by rule, none ready: what is left
clock            a clock that was moved
"""

from typing import Final

from proxy.diagnostics.analyzers import (
    app_errors,
    by_hand,
    capacity,
    change,
    children,
    clients,
    clock,
    closing,
    connecting,
    cpu,
    crash_loop,
    descriptors,
    ejected,
    event_loop,
    exits,
    gateway,
    gateway_load,
    health,
    host,
    limits,
    locks,
    malformed,
    memory,
    names,
    one_instance,
    pool_exhausted,
    slow,
    slow_clients,
    slow_dependency,
    slow_handler,
    starting,
    storage,
    suspects,
    tls,
)
from proxy.diagnostics.analyzers.contract import Analyzer

ANALYZERS: Final[tuple[Analyzer, ...]] = (
    exits.ANALYZER,
    crash_loop.ANALYZER,
    children.ANALYZER,
    suspects.ANALYZER,
    starting.ANALYZER,
    health.ANALYZER,
    connecting.ANALYZER,
    names.ANALYZER,
    closing.ANALYZER,
    malformed.ANALYZER,
    tls.ANALYZER,
    app_errors.ANALYZER,
    storage.ANALYZER,
    descriptors.ANALYZER,
    memory.ANALYZER,
    gateway.ANALYZER,
    by_hand.ANALYZER,
    limits.ANALYZER,
    ejected.ANALYZER,
    clock.ANALYZER,
    slow_dependency.ANALYZER,
    pool_exhausted.ANALYZER,
    locks.ANALYZER,
    event_loop.ANALYZER,
    cpu.ANALYZER,
    slow_handler.ANALYZER,
    capacity.ANALYZER,
    slow_clients.ANALYZER,
    clients.ANALYZER,
    change.ANALYZER,
    one_instance.ANALYZER,
    host.ANALYZER,
    gateway_load.ANALYZER,
    slow.ANALYZER,
)

__all__ = ["ANALYZERS", "Analyzer"]
