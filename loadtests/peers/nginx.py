"""nginx: one worker process, its log with timings buffered as the gateway's is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from loadtests.peers.peer import CONNECTIONS, Command, Peer, Site, on_path, said_by


def prepare(program: str, site: Site) -> Command:
    """/1m has 16 buffers of 64 KiB: with the default 8 of 4 KiB, nginx would look worse than it is."""
    for name in ("body", "proxy", "fastcgi", "uwsgi", "scgi"):
        (site.folder / name).mkdir(parents=True, exist_ok=True)
    config = site.write(
        "nginx.conf",
        f"""\
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {site.folder}/nginx.pid;
error_log {site.folder}/error.log warn;
events {{ worker_connections 19000; multi_accept on; }}
http {{
{TEMPORARY.format(folder=site.folder)}
    log_format timings escape=json '{{"at":"$msec","id":"$request_id","client":"$remote_addr",'
        '"method":"$request_method",'
        '"target":"$request_uri","status":$status,"sent":$bytes_sent,"received":$request_length,'
        '"total":$request_time,'
        '"connect":"$upstream_connect_time","wait":"$upstream_header_time","answered":"$upstream_response_time",'
        '"instance":"$upstream_addr"}}';
    access_log {site.log} timings buffer=64k flush=1s;
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    ssl_certificate {site.certificate};
    ssl_certificate_key {site.key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:10m;
    upstream origin {{
        server 127.0.0.1:{site.origin_port}; keepalive {CONNECTIONS}; keepalive_requests 1000000000;
    }}
    upstream post {{
        server 127.0.0.1:{site.post_port}; keepalive {CONNECTIONS}; keepalive_requests 1000000000;
    }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Forwarded-Port $server_port;
    proxy_set_header Forwarded "for=$remote_addr;host=$http_host;proto=$scheme";
    proxy_set_header Via "1.1 nginx";
    proxy_set_header X-Request-ID $request_id;
    add_header X-Request-ID $request_id;
    client_body_buffer_size 64k;
    server {{
        listen 127.0.0.1:{site.port} backlog=4096;
        listen 127.0.0.1:{site.tls_port} ssl backlog=4096;
        location / {{ proxy_pass http://origin; }}
        location /post {{ proxy_pass http://post; }}
        location /1m {{
            proxy_buffers 16 64k; proxy_buffer_size 64k; proxy_busy_buffers_size 128k;
            proxy_max_temp_file_size 0;
            proxy_pass http://origin;
        }}
    }}
}}
""",
    )
    argv: list[str | Path] = [
        program,
        "-p",
        str(site.folder),
        "-c",
        config,
        "-e",
        str(site.folder / "error.log"),
    ]
    return Command(argv=argv, check=[*argv, "-t"])


TEMPORARY: Final = """\
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;"""

NGINX: Final = Peer(
    name="nginx",
    find=on_path("nginx"),
    get="apt-get install nginx",
    version=said_by("-v", pattern=r"nginx/([\d.]+)"),
    prepare=prepare,
)
