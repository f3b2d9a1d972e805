"""Bad configs, and exactly what is said about each: the file, the line, the key, and what would be right."""

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.config import Config, ConfigProblems, load, parse

Problems = Callable[..., list[str]]

CASES = [
    (
        """
[gatway]
slow = "1s"
""",
        [
            'config.toml:1: gatway: unknown key - did you mean "gateway"?',
        ],
    ),
    (
        """
x = 1
""",
        [
            "config.toml:1: x: unknown key - known here: "
            "gateway, admin, apps, keep, traces, status_page, alerts, notify",
        ],
    ),
    (
        """
[apps.web.process]
command = "app --port {port}"
user = "root"
[apps.web.health]
interval = 5
intervall = "5s"
[apps.web.scale]
min = 4
max = 2
""",
        [
            'config.toml:5: apps.web.health.interval: expected a duration such as "5s", got 5',
            'config.toml:6: apps.web.health.intervall: unknown key - did you mean "interval"?',
            "config.toml:8: apps.web.scale.min: 4 is more than apps.web.scale.max (2)",
        ],
    ),
    (
        """
gateway = 5
""",
        [
            "config.toml:1: gateway: expected a table, got 5",
        ],
    ),
    (
        """
[gateway]
slow = "5"
timeouts = { head = "5 hours", body = "0s", idle = true }
""",
        [
            'config.toml:2: gateway.slow: expected a duration such as "5s", got "5"',
            'config.toml:3: gateway.timeouts.head: expected a duration such as "5s", got "5 hours"',
            'config.toml:3: gateway.timeouts.body: "0s" is less than 50ms - 50ms or more',
            'config.toml:3: gateway.timeouts.idle: expected a duration such as "5s", got true',
        ],
    ),
    (
        """
[gateway]
limits = { head = "64K", headers = 0, target = 8192, connections = "many" }
""",
        [
            'config.toml:2: gateway.limits.head: expected a size such as "64KiB" or "512MB", got "64K"',
            "config.toml:2: gateway.limits.headers: 0 is less than 1 - 1 to 10000",
            'config.toml:2: gateway.limits.target: expected a size such as "64KiB" or "512MB", got 8192',
            'config.toml:2: gateway.limits.connections: expected a whole number, got "many"',
        ],
    ),
    (
        """
[gateway]
listen = "127.0.0.1:80"
""",
        [
            'config.toml:2: gateway.listen: expected an array, got "127.0.0.1:80" - ["127.0.0.1:80"]',
        ],
    ),
    (
        """
[gateway]
listen = []
""",
        [
            'config.toml:2: gateway.listen: expected one address at least - ["127.0.0.1:8080"]',
        ],
    ),
    (
        """
[gateway]
listen = [
  "127.0.0.1",
  "example.com:80",
  "ftp://127.0.0.1",
  "127.0.0.1:99999",
  "[::g]:80",
  "unix:",
  "1.2.3.256:80",
  "127.0.0.1:80/path",
]
""",
        [
            'config.toml:3: gateway.listen[0]: "127.0.0.1" has no port - such as "127.0.0.1:8080", "[::'
            ']:80", "https://0.0.0.0:443" or "unix:run/gateway.sock"',
            'config.toml:4: gateway.listen[1]: "example.com" is not an address of this machine - an IP '
            "address, or localhost",
            'config.toml:5: gateway.listen[2]: unknown scheme "ftp" - http:// or https://',
            "config.toml:6: gateway.listen[3]: port 99999 is more than 65535 - 0 to 65535",
            'config.toml:7: gateway.listen[4]: "::g" is not an IPv6 address - such as "[::1]:8080"',
            'config.toml:8: gateway.listen[5]: "unix:" names no file - "unix:run/gateway.sock"',
            'config.toml:9: gateway.listen[6]: "1.2.3.256" is not a host - an address such as "127.0.0.'
            '1:8080", "[::]:80", "https://0.0.0.0:443" or "unix:run/gateway.sock"',
            'config.toml:10: gateway.listen[7]: expected an address such as "127.0.0.1:8080", "[::]:80"'
            ', "https://0.0.0.0:443" or "unix:run/gateway.sock", got "127.0.0.1:80/path"',
        ],
    ),
    (
        """
[gateway]
listen = ["127.0.0.1:9900", ":80", ":80", "https://127.0.0.1:443"]
""",
        [
            'config.toml:2: gateway.listen[0]: "127.0.0.1:9900" is taken by admin.listen ("127.0.0.1:99'
            '00") - another port or file',
            'config.toml:2: gateway.listen[2]: ":80" is taken by gateway.listen[1] (":80") - another po'
            "rt or file",
            'config.toml:2: gateway.listen[3]: "https://127.0.0.1:443" needs a certificate - add [[gate'
            "way.certificates]]",
        ],
    ),
    (
        """
[gateway]
workers = 0
proxy_protocol = true
""",
        [
            'config.toml:2: gateway.workers: expected "auto" or a number from 1 to 16, got 0',
            "config.toml:3: gateway.proxy_protocol: true, but no gateway.trusted_proxies - the networks"
            " of the proxies",
        ],
    ),
    (
        """
[gateway]
workers = "four"
trusted_proxies = ["10.0.0.1/8", "lan", "::1"]
""",
        [
            'config.toml:2: gateway.workers: expected "auto" or a number from 1 to 16, got "four"',
            'config.toml:3: gateway.trusted_proxies[0]: "10.0.0.1/8" has bits set behind its mask - "10'
            '.0.0.0/8"',
            'config.toml:3: gateway.trusted_proxies[1]: expected a network such as "10.0.0.0/8" or "::1'
            '/128", got "lan"',
        ],
    ),
    (
        """
[gateway]
access_log = true
error_pages = "nowhere"
[admin]
listen = "https://127.0.0.1:1"
url = "ops"
""",
        [
            "config.toml:2: gateway.access_log: expected a path, false or a table, got true",
            "config.toml:3: gateway.error_pages: cannot read nowhere: No such file or directory - a fol"
            "der that Triage may read",
            'config.toml:5: admin.listen: "https://127.0.0.1:1" needs a certificate - admin.certificate'
            ' = { cert = "…", key = "…" }',
            'config.toml:6: admin.url: expected a URL such as "https://example.com/hook", got "ops"',
        ],
    ),
    (
        """
[admin]
listen = "0.0.0.0:9900"
""",
        [
            'config.toml:2: admin.listen: "0.0.0.0:9900" is open to the network, and tokens would be se'
            'nt in the clear - "https://0.0.0.0:9900" with admin.certificate, a loopback address with a'
            "dmin.socket or an SSH tunnel, or the word admin.insecure = true",
        ],
    ),
    (
        """
[admin]
listen = "https://:9900"
certificate = { cert = "cert.pem", key = "nowhere.pem" }
insecure = "yes"
""",
        [
            "config.toml:3: admin.certificate.key: cannot read nowhere.pem: No such file or directory -"
            " a file that Triage may read",
            'config.toml:4: admin.insecure: expected true or false, got "yes"',
        ],
    ),
    (
        """
[gateway]
access_log = { path = "a", format = "json5" }
""",
        [
            'config.toml:2: gateway.access_log.format: unknown value "json5" - did you mean "json"?',
        ],
    ),
    (
        """
[[gateway.certificates]]
cert = "cert.pem"
key = "nokey.pem"
[[gateway.certificates]]
cert = "cert.pem"
""",
        [
            "config.toml:3: gateway.certificates[0].key: cannot read nokey.pem: No such file or directo"
            "ry - a file that Triage may read",
            'config.toml:4: gateway.certificates[1].key: missing - such as key = "key.pem"',
        ],
    ),
    (
        """
[[gateway.certificates]]
cert = "cert.pem"
key = "other.pem"
[[gateway.certificates]]
cert = "ca.pem"
key = "errors.txt"
""",
        [
            "config.toml:1: gateway.certificates[0]: cert and key do not belong together",
            "config.toml:4: gateway.certificates[1]: cannot be loaded - two PEM files, the key without "
            "a passphrase",
        ],
    ),
    (
        """
[apps.web]
paths = ["/"]
""",
        [
            "config.toml:1: apps.web: neither process nor addresses - a [process] with a command, or wh"
            "ere the instances are",
        ],
    ),
    (
        """
[apps.web]
hosts = ["a.example"]
process = { command = "x", user = "root" }
addresses = ["http://10.0.0.5"]
""",
        [
            "config.toml:4: apps.web.addresses: both process and addresses - Triage runs the instances,"
            " or it is given them",
        ],
    ),
    (
        """
[apps."my app"]
addresses = ["http://a"]
""",
        [
            'config.toml:1: apps."my app": "my app" is no name - letters, digits, - and _ (40 at most)',
        ],
    ),
    (
        """
[apps.web]
addresses = ["http://10.0.0.5:8000"]
hosts = ["http://example.com", "example.com:80", "*", "a.*.com", "EXAMPLE.com.", "example.com"]
""",
        [
            'config.toml:3: apps.web.hosts[0]: "http://example.com" is not a host - such as "example.co'
            'm" or "*.example.com", without scheme and port',
            'config.toml:3: apps.web.hosts[1]: "example.com:80" is not a host - such as "example.com" o'
            'r "*.example.com", without scheme and port',
            'config.toml:3: apps.web.hosts[2]: "*" is no host - leave `hosts` out to answer for every host',
            'config.toml:3: apps.web.hosts[3]: "a.*.com" is not a host - such as "example.com" or "*.ex'
            'ample.com", without scheme and port',
        ],
    ),
    (
        """
[apps.web]
addresses = ["http://10.0.0.5:8000"]
paths = ["api", "/a b", "/a*", "/x", "/x"]
""",
        [
            'config.toml:3: apps.web.paths[0]: "api" does not start with "/" - "/api"',
            'config.toml:3: apps.web.paths[1]: "/a b" has letters that no request can have - percent-en'
            "code them",
            'config.toml:3: apps.web.paths[2]: "/a*" has "?" or "*" - the beginning of a path, such as '
            '"/api"',
        ],
    ),
    (
        """
[apps.web]
addresses = ["http://10.0.0.5:8000"]
[apps.b]
addresses = ["http://10.0.0.6:1"]
[apps.c]
hosts = ["c.example"]
paths = ["/c"]
addresses = ["http://10.0.0.6:1"]
[apps.d]
hosts = ["c.example"]
paths = ["/d", "/c"]
addresses = ["http://10.0.0.6:1"]
""",
        [
            'config.toml:3: apps.b.paths: every host with "/" is answered by app web already - another '
            "host or prefix",
            'config.toml:11: apps.d.paths: "c.example" with "/c" is answered by app c already - another'
            " host or prefix",
        ],
    ),
    (
        """
[apps.web]
addresses = ["http://10.0.0.5:8000"]
balance = "hash"
""",
        [
            'config.toml:3: apps.web.balance: "hash" needs hash_key - "client", "header:NAME" or "cooki'
            'e:NAME"',
        ],
    ),
    (
        """
[apps.web]
addresses = ["http://10.0.0.5:8000"]
balance = "roundrobin"
hash_key = "ip"
""",
        [
            'config.toml:3: apps.web.balance: unknown value "roundrobin" - did you mean "round-robin"?',
            'config.toml:4: apps.web.hash_key: expected "client", "header:NAME" or "cookie:NAME", got "ip"',
        ],
    ),
    (
        """
[apps.web]
addresses = ["http://10.0.0.5:8000"]
hash_key = "client"
""",
        [
            'config.toml:3: apps.web.hash_key: is for balance = "hash", and balance is "least-latency"',
        ],
    ),
    (
        """
[apps.web]
addresses = ["http://10.0.0.5:8000"]
max_inflight = -1
max_body = "lots"
retries = { attempts = 99, budget = "120%", on = ["head-timeouts"] }
""",
        [
            'config.toml:3: apps.web.max_inflight: expected "adaptive" or a number from 0 (no limit) to'
            " 1000000, got -1",
            'config.toml:4: apps.web.max_body: expected a size such as "64KiB" or "512MB", got "lots"',
            "config.toml:5: apps.web.retries.attempts: 99 is more than 10 - 0 to 10",
            'config.toml:5: apps.web.retries.budget: "120%" is more than "100%" - "0%" to "100%"',
            'config.toml:5: apps.web.retries.on[0]: unknown value "head-timeouts" - did you mean "head-'
            'timeout"?',
        ],
    ),
    (
        """
[apps.web]
addresses = ["http://10.0.0.5:8000"]
retries = { budget = 0.2, per_second = "10" }
queue = { size = 1.5, timeout = "-5s" }
""",
        [
            'config.toml:3: apps.web.retries.budget: expected a ratio such as "20%", got 0.2',
            'config.toml:3: apps.web.retries.per_second: expected a number, got "10"',
            "config.toml:4: apps.web.queue.size: expected a whole number, got 1.5",
            'config.toml:4: apps.web.queue.timeout: expected a duration such as "5s", got "-5s"',
        ],
    ),
    (
        """
[apps.web]
addresses = ["http://10.0.0.5:8000"]
rate_limit = { burst = 5 }
sticky = { cookie = "a b" }
tunnel = { upgrades = ["h2c"] }
""",
        [
            "config.toml:3: apps.web.rate_limit.per_client: missing - such as per_client = 50",
            'config.toml:4: apps.web.sticky.cookie: "a b" is no name for it - letters, digits and -._',
            'config.toml:5: apps.web.tunnel.upgrades[0]: "h2c" would let requests past the gateway\'s ch'
            'ecks - such as "websocket"',
        ],
    ),
    (
        """
[apps.web]
addresses = ["10.0.0.5:8000",
  "http://10.0.0.5:8000/api",
  "http://user:pw@h", { name = "b" },
  { url = "unix:/run/a.sock", nam = "x" }, { url = "http://b", weight = 0, name = "a:80" },
  "http://:80",
]
""",
        [
            'config.toml:2: apps.web.addresses[0]: expected an address such as "http://10.0.0.5:8000" o'
            'r "unix:/run/app.sock", got "10.0.0.5:8000"',
            'config.toml:3: apps.web.addresses[1]: a path in "http://10.0.0.5:8000/api" - the address a'
            'lone: "http://10.0.0.5:8000"',
            "config.toml:4: apps.web.addresses[2]: a user or password in an address - leave it out: cli"
            "ents of the app send their own",
            'config.toml:4: apps.web.addresses[3].url: missing - such as url = "http://10.0.0.5:8000"',
            'config.toml:5: apps.web.addresses[4].nam: unknown key - did you mean "name"?',
            "config.toml:5: apps.web.addresses[5].weight: 0 is less than 0.01 - 0.01 to 10000",
            'config.toml:6: apps.web.addresses[6]: "http://:80" says not where - an address such as "ht'
            'tp://10.0.0.5:8000" or "unix:/run/app.sock"',
        ],
    ),
    (
        """
[apps.web.process]
command = ""
user = "root"
""",
        [
            'config.toml:2: apps.web.process.command: expected a command such as "uvicorn app:app --por'
            't {port}", got an empty string',
        ],
    ),
    (
        """
[apps.web.process]
command = "app 'x"
user = "root"
""",
        [
            "config.toml:2: apps.web.process.command: cannot be split: no closing quotation - close the"
            " quotation, or escape it",
        ],
    ),
    (
        """
[apps.web.process]
command = "app {prot}"
user = "root"
cwd = "nowhere"
""",
        [
            "config.toml:2: apps.web.process.command: unknown placeholder {prot} - {port}, {socket} or "
            "{name}",
            "config.toml:4: apps.web.process.cwd: cannot read nowhere: No such file or directory - a fo"
            "lder that Triage may read",
        ],
    ),
    (
        """
[apps.web.process]
command = "app {port}"
bind = "unix"
user = "root"
""",
        [
            'config.toml:2: apps.web.process.command: {port} is not filled in with bind = "unix" - bind'
            ' = "port"',
        ],
    ),
    (
        """
[apps.web.process]
command = "app"
bind = "fd"
user = "root"
""",
        [
            'config.toml:3: apps.web.process.bind: "fd" needs apps.web.health.path: such a socket accep'
            "ts before the app does",
        ],
    ),
    (
        """
[apps.web.process]
user = "nobody-here"
bind = "tcp"
env = { A = 1 }
stop = { signal = "TREM" }
memory = "5kB"
""",
        [
            'config.toml:1: apps.web.process.command: missing - such as command = "uvicorn app:app --po'
            'rt {port}"',
            'config.toml:2: apps.web.process.user: unknown user "nobody-here" - a user of this machine',
            'config.toml:3: apps.web.process.bind: unknown value "tcp" - known here: port, unix, fd',
            'config.toml:4: apps.web.process.env.A: expected a string, got 1 - write "1"',
            'config.toml:5: apps.web.process.stop.signal: unknown signal "TREM" - such as "TERM", "INT"'
            ' or "QUIT"',
            'config.toml:6: apps.web.process.memory: "5kB" is less than 1MB - 1MB or more',
        ],
    ),
    (
        """
[apps.web.process]
command = "app --port {port}"
user = "root"
env = { A = "${NOPE}", B = "${NOPE:-x}", C = "$${NOPE}", D = "${no pe}" }
version = "${V}"
""",
        [
            'config.toml:4: apps.web.process.env.A: ${NOPE} is not set - set it, or write "${NOPE:-default}"',
            'config.toml:4: apps.web.process.env.D: ${no pe} is not a variable - "${NAME}" or "${NAME:-'
            'default}"; "$${" stands for "${"',
            'config.toml:5: apps.web.process.version: ${V} is not set - set it, or write "${V:-default}"',
        ],
    ),
    (
        """
[apps.web.process]
command = "app --port {port}"
user = "root"
[[apps.web.autoheal]]
name = "a"
when = { slowness = { above = "5s" } }
then = ["recicle"]
[[apps.web.autoheal]]
name = "a"
when = { memory = { above = 80, cont = 3 } }
then = []
[[apps.web.autoheal]]
when = { slow = { above = "5s", below = "6s" } }
then = [{ run = "x" }]
""",
        [
            'config.toml:6: apps.web.autoheal[0].when.slowness: unknown condition - did you mean "slow"?',
            'config.toml:7: apps.web.autoheal[0].then[0]: unknown act "recicle" - did you mean "recycle"?',
            'config.toml:10: apps.web.autoheal[1].when.memory.cont: unknown key - did you mean "count"?',
            'config.toml:10: apps.web.autoheal[1].when.memory.above: expected a size such as "64KiB" or'
            ' "512MB" or a ratio such as "80%", got 80',
            'config.toml:12: apps.web.autoheal[2].name: missing - such as name = "slow"',
            "config.toml:13: apps.web.autoheal[2].when.slow: needs one of above and below",
            'config.toml:14: apps.web.autoheal[2].then[0]: expected an argument list such as ["docker",'
            ' "restart"], got "x"',
        ],
    ),
    (
        """
[apps.web.process]
command = "app --port {port}"
user = "root"
[[apps.web.autoheal]]
name = "a"
when = { status = { count = 3 } }
then = ["run"]
[[apps.web.autoheal]]
name = "b"
when = { fault = { names = ["head-timeuot"] }, cpu = {} }
then = ["collect"]
[[apps.web.autoheal]]
name = "c"
when = { schedule = { cron = "0 25 * * *" } }
then = ["collect"]
""",
        [
            "config.toml:6: apps.web.autoheal[0].when.status: needs codes",
            'config.toml:7: apps.web.autoheal[0].then[0]: expected "collect", "diagnose", "recycle", "restart", "ej'
            'ect", { scale = 1 } or { run = ["command"] }, got "run"',
            "config.toml:10: apps.web.autoheal[1].when: expected one condition such as { cpu = { above "
            '= "70%" } }, got 2 keys',
            'config.toml:14: apps.web.autoheal[2].when.schedule.cron: "25" is no hour - 0 to 23',
        ],
    ),
    (
        """
[apps.web]
addresses = ["http://10.0.0.5:8000"]
[apps.web.scale]
min = 1
max = 2
in = [{ age = { above = "1m" } }]
""",
        [
            "config.toml:3: apps.web.scale: needs a process - Triage cannot start more of the addresses"
            " it is given",
            "config.toml:6: apps.web.scale.in[0].age: unknown condition - known here: cpu, memory, queu"
            "e, inflight, requests, slow, schedule",
        ],
    ),
    (
        """
[apps.web]
addresses = ["http://10.0.0.5:8000"]
[apps.web.health]
path = "healthz"
status = "2xx"
fails = 0
""",
        [
            'config.toml:4: apps.web.health.path: "healthz" does not start with "/" - "/healthz"',
            'config.toml:5: apps.web.health.status: expected statuses such as "200-299", ">=500" or [20'
            '0, 404], got "2xx"',
            "config.toml:6: apps.web.health.fails: 0 is less than 1 - 1 to 1000",
        ],
    ),
    (
        """
[apps.web.process]
command = "app --port {port}"
user = "root"
[apps.web.recycle]
command = "docker restart {name}"
""",
        [
            'config.toml:5: apps.web.recycle.command: expected an argument list such as ["docker", "res'
            'tart"], got "docker restart {name}"',
        ],
    ),
    (
        """
[apps.web]
addresses = ["http://10.0.0.5:8000"]
[apps.web.recycle]
command = ["docker", "restart", "{nme}"]
[apps.web.ejection]
first = "10m"
""",
        [
            "config.toml:4: apps.web.recycle.command: unknown placeholder {nme} - {name}, {address}",
            'config.toml:6: apps.web.ejection.first: "10m" is more than apps.web.ejection.max ("5m")',
        ],
    ),
    (
        """
[[alerts]]
name = "a"
when = { fault_ratio = { above = "5%" } }
notify = ["ops"]
[notify.dev]
email = "x"
[notify.qa]
[notify.both]
email = "a@b"
slack = "https://x/y"
""",
        [
            'config.toml:4: alerts[0].notify[0]: nobody is called "ops" - add [notify.ops]',
            "config.toml:5: notify.dev: has no way - one of webhook, email, command, slack",
            'config.toml:6: notify.dev.email: expected an address such as "ops@example.com", got "x"',
            "config.toml:7: notify.qa: has no way - one of webhook, email, command, slack",
            "config.toml:8: notify.both: has email and slack - one of webhook, email, command, slack",
        ],
    ),
    (
        """
[apps.web]
addresses = ["http://10.0.0.5:8000"]
[apps.given]
paths = ["/x"]
addresses = ["http://A:80", "http://a", { url = "http://b", name = "a:80" }]
""",
        [
            'config.toml:5: apps.given.addresses[1]: "http://a:80" stands there twice',
            'config.toml:5: apps.given.addresses[2].name: "a:80" stands there twice',
        ],
    ),
    (
        """
[keep]
requests = "1s"
store = "1kB"
whole = [{ fault = "nope", path = "x" }]
instance_logs = { files = 0 }
""",
        [
            'config.toml:2: keep.requests: "1s" is less than 1m - 1m or more',
            'config.toml:3: keep.store: "1kB" is less than 1MB - 1MB or more',
            'config.toml:4: keep.whole[0].path: "x" does not start with "/" - "/x"',
            'config.toml:4: keep.whole[0].fault: unknown fault "nope" - docs/faults.md lists them',
            "config.toml:5: keep.instance_logs.files: 0 is less than 1 - 1 to 1000",
        ],
    ),
]  # a text begins on its line 0, behind the quotes


@pytest.mark.parametrize(("text", "said"), CASES, ids=[case[0].split("\n")[1][:40] for case in CASES])
def test_what_is_said(folder: Path, problems: Problems, text: str, said: list[str]) -> None:
    (folder / "errors.txt").write_text("no certificate")
    assert problems(text.removeprefix("\n")) == said


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[gateway\nslow = 1", 1),
        ("[gateway]\nslow = ", 2),
        ('[a]\nb = "1s"\nb = "2s"\n\n', 3),
        ("a = [\n1,\n", 2),
    ],
)
def test_broken_syntax_has_a_line_too(problems: Problems, text: str, line: int) -> None:
    """The words are tomllib's, and differ between versions."""
    (said,) = problems(text)
    assert said.startswith(f"config.toml:{line}: is not TOML: ")


def test_the_whole_output(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[gateway]\nslow = 5\n[apps.web]\nadresses = ["http://a"]\n')
    with pytest.raises(ConfigProblems) as found:
        load(path)
    assert str(found.value) == (
        f'{path}:2: gateway.slow: expected a duration such as "5s", got 5\n'
        f"{path}:3: apps.web: neither process nor addresses"
        " - a [process] with a command, or where the instances are\n"
        f'{path}:4: apps.web.adresses: unknown key - did you mean "addresses"?\n'
        "3 problems; nothing was changed."
    )


def test_one_problem_is_singular() -> None:
    with pytest.raises(ConfigProblems, match=r"1 problem; nothing was changed\.$"):
        parse("x = 1", "config.toml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblems, match=r"config\.toml: cannot be read: No such file or directory"):
        load(tmp_path / "config.toml")
    with pytest.raises(ConfigProblems, match="cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"# fine\n# \xff\n")
    with pytest.raises(ConfigProblems, match=r"bytes\.toml:2: is not UTF-8 text"):
        load(tmp_path / "bytes.toml")


@pytest.mark.parametrize(
    "text", ["x = " + "[" * 5000, "x = " + "1" * 5000, "x.y = " * 2, "a" + ".a" * 3000 + " = 1"]
)
def test_texts_that_break_parsers(text: str) -> None:
    with pytest.raises(ConfigProblems):
        parse(text, "config.toml")


def test_who_runs_the_instances(problems: Problems, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is an error depends on who asks, so both are asked."""
    text = '[apps.web.process]\ncommand = "app"\n'
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert problems(text) == [
        "config.toml:1: apps.web.process.user: missing, and Triage is started by root"
        ' - a user such as "www", or "root"'
    ]
    assert problems(text + 'user = "root"') == []
    assert problems(text + 'user = "0"') == []
    monkeypatch.setattr("os.geteuid", lambda: 4321)
    assert problems(text) == []
    assert problems(text + 'user = "root"') == []
    assert problems(text + 'user = "daemon"') == [
        'config.toml:3: apps.web.process.user: only root may start a process as "daemon" - leave it out'
    ]


def test_a_good_file_has_none(read: Callable[..., Config]) -> None:
    assert list(read("").apps) == ["web"]
