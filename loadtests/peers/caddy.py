"""Caddy: Go's runtime held to one core by GOMAXPROCS."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from loadtests.peers.peer import CONNECTIONS, Command, Peer, Site, on_path, said_by


def prepare(program: str, site: Site) -> Command:
    """Its log lines hold request and response fields besides the timings; that is how Caddy logs."""
    upstream = f"""\
        header_up X-Forwarded-Port {{http.request.port}}
        header_up Forwarded "for={{remote_host}};host={{host}};proto={{scheme}}"
        header_up Via "1.1 caddy"
        header_up X-Request-ID {{http.request.uuid}}
        header_down X-Request-ID {{http.request.uuid}}
        transport http {{
            dial_timeout 2s
            keepalive 60s
            keepalive_idle_conns {CONNECTIONS}
            keepalive_idle_conns_per_host {CONNECTIONS}
            compression off
        }}"""
    config = site.write(
        "Caddyfile",
        f"""\
{{
    admin off
    auto_https off
    storage file_system {site.folder}/storage
    servers {{
        protocols h1
    }}
}}

(site) {{
    bind 127.0.0.1
    log {{
        output file {site.log} {{
            roll_disabled
        }}
        format json
    }}
    handle /post {{
        reverse_proxy 127.0.0.1:{site.post_port} {{
    {upstream}
        }}
    }}
    handle {{
        reverse_proxy 127.0.0.1:{site.origin_port} {{
    {upstream}
        }}
    }}
}}

http://:{site.port} {{
    import site
}}

https://:{site.tls_port} {{
    tls {site.certificate} {site.key}
    import site
}}
""",
    )
    arguments: list[str | Path] = ["--config", config, "--adapter", "caddyfile"]
    env = {"GOMAXPROCS": "1", "HOME": str(site.folder), "XDG_DATA_HOME": str(site.folder)}
    return Command(argv=[program, "run", *arguments], check=[program, "validate", *arguments], env=env)


CADDY: Final = Peer(
    name="caddy",
    find=on_path("caddy"),
    get="apt-get install caddy",
    version=said_by("version", pattern=r"v?([\d.]+)"),
    prepare=prepare,
)
