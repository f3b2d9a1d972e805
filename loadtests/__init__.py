"""Load tests: what Triage costs beside its peers, and how it bears overload, faults and idleness.

bench          CPU per request, requests a second, p50 and p99, beside nginx, HAProxy, Caddy and Envoy
latency        what the gateway adds, alone and at half of saturation
overload       open loop at 1, 2 and 5 times a known capacity
idle           kilobytes for each idle connection, and processes at rest
slow_instance  one of four instances slow or failing: the share of requests hurt
faults         thousands of faults a second: what control pays
instances      a thousand instances in one app against four
stall          the longest time a worker's loop stood still
chaos          what is lost while everything is killed, replaced or filled up (chaos_*: its parts)
how_soon       how soon an app is served again, with no hand lifted
healthy_day    mixed traffic and deploys: does any rule fire?
control_cost   control with 200 instances at rest

open_loop (also a command) and wrk are the generators; peers/ has a file for each proxy, origin stands behind
them, stage sets both up. lab and procs start, pin, measure and end processes; gateway is Triage by role.
works says what is asked for; ask is one checked request; report, table and machine are how it is shown.
"""
