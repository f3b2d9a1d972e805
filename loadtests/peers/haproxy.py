"""HAProxy: one thread; its log goes to its standard output, which is a memory-backed file here."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from loadtests.peers.peer import CONNECTIONS, Command, Peer, Site, on_path, said_by

LOG_FORMAT: Final = (
    '{"at":"%Ts.%ms","id":"%ID","client":"%ci","method":"%HM","target":"%HU","status":%ST,"sent":%B,"received":%U,'
    '"head":%TR,"queue":%Tw,"connect":%Tc,"wait":%Tr,"total":%Ta,"instance":"%s"}'
)


def prepare(program: str, site: Site) -> Command:
    """A log line per request is written at once: HAProxy does not buffer them."""
    quoted = LOG_FORMAT.replace('"', '\\"')
    config = site.write(
        "haproxy.cfg",
        f"""\
global
    nbthread 1
    maxconn 8000
    log stdout format raw local0 info
    tune.ssl.default-dh-param 2048

defaults
    mode http
    log global
    log-format "{quoted}"
    timeout connect 2s
    timeout client 75s
    timeout server 60s
    timeout http-request 10s
    timeout http-keep-alive 75s
    option http-keep-alive
    http-reuse always

frontend clients
    bind 127.0.0.1:{site.port} backlog 4096
    bind 127.0.0.1:{site.tls_port} ssl crt {site.pem} alpn http/1.1 backlog 4096
    unique-id-format %[uuid()]
    unique-id-header X-Request-ID
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto http if !{{ ssl_fc }}
    http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    http-request set-header X-Forwarded-Port %[dst_port]
    http-request set-header Forwarded for=%[src];host=%[req.hdr(Host)]
    http-request set-header Via "1.1 haproxy"
    http-response set-header X-Request-ID %[unique-id]
    use_backend post if {{ path /post }}
    default_backend origin

backend origin
    server origin 127.0.0.1:{site.origin_port} pool-max-conn {CONNECTIONS}

backend post
    server post 127.0.0.1:{site.post_port} pool-max-conn {CONNECTIONS}
""",
    )
    argv: list[str | Path] = [program, "-db", "-f", config]
    return Command(argv=argv, check=[program, "-c", "-f", config], output=site.log)


HAPROXY: Final = Peer(
    name="haproxy",
    find=on_path("haproxy"),
    get="apt-get install haproxy",
    version=said_by("-v", pattern=r"version ([\d.]+)"),
    prepare=prepare,
)
