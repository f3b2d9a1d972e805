"""What must stand before a peer can be measured: a certificate, the origins, the peer's own folder."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from loadtests.ask import get
from loadtests.lab import Lab, python
from loadtests.peers.nginx import NGINX, TEMPORARY
from loadtests.peers.peer import Site
from loadtests.works import KIB, SMALL

STATIC: Final = """\
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 10000; }}
http {{
{temporary}
    access_log off;
    default_type text/plain;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=10 inactive=1h;
    open_file_cache_valid 1h;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    server {{
        listen {host}:{port} backlog=4096;
        root {files};
        location = /16k {{}}
        location = /1m {{}}
        location / {{ return 200 "{small}"; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """Origins that answer, and a certificate for 127.0.0.1; `site` makes a place for a peer on it."""

    lab: Lab
    origin_port: int
    post_port: int
    certificate: Path
    key: Path

    def site(self, name: str) -> Site:
        """Folder, log and ports for the peer of this name."""
        folder = self.lab.folder / name
        folder.mkdir()
        return Site(
            folder=folder,
            log=self.lab.logs / f"{name}.log",
            port=self.lab.free_port(),
            tls_port=self.lab.free_port(),
            origin_port=self.origin_port,
            post_port=self.post_port,
            certificate=self.certificate,
            key=self.key,
            admin_port=self.lab.free_port(),
        )


def stage(lab: Lab) -> Stage:
    """Start the origins and make the certificate."""
    certificate, key = self_signed(lab.folder)
    # nginx answers `return 200` before it has read the content of a POST, which makes some proxies give up
    # the connection: /post gets an origin that reads first.
    return Stage(lab, start_static(lab), start_origin(lab), certificate, key)


def start_static(lab: Lab, host: str = "127.0.0.1") -> int:
    """The cheapest origin there is: nginx answering from memory; without nginx, ours. Gives its port."""
    program = NGINX.find()
    if program is None:
        return start_origin(lab, host=host)
    port = lab.free_port()
    folder = lab.folder / f"origin-{port}"
    files = lab.logs / f"files-{port}"
    for path in (folder, files, *(folder / name for name in ("body", "proxy", "fastcgi", "uwsgi", "scgi"))):
        path.mkdir()
    (files / "16k").write_bytes(b"x" * 16 * KIB)
    (files / "1m").write_bytes(b"x" * 1024 * KIB)
    config = folder / "nginx.conf"
    config.write_text(
        STATIC.format(
            user="user root;" if folder.owner() == "root" else "",
            folder=folder,
            temporary=TEMPORARY.format(folder=folder),
            host=host,
            port=port,
            files=files,
            small="x" * SMALL,
        )
    )
    process = lab.start([program, "-p", folder, "-c", config, "-e", folder / "error.log"], core=lab.generator_core)
    lab.wait_until(lambda: answers(port), process, "origin (nginx)")
    return port


def start_origin(
    lab: Lab, *, host: str = "127.0.0.1", delay: float = 0.0, slots: int = 0, core: int | None = None
) -> int:
    """An origin of ours (loadtests.origin). Gives its port."""
    port = lab.free_port()
    argv = python("loadtests.origin", "--host", host, "--port", str(port), "--delay", str(delay), "--slots", str(slots))
    process = lab.start(argv, core=lab.generator_core if core is None else core)
    lab.wait_until(lambda: answers(port), process, "origin")
    return port


def become(port: int, *, delay: float | None = None, fail: str | None = None) -> None:
    """Tell one of our origins to behave otherwise from now on."""
    query = [f"delay={delay}"] if delay is not None else []
    query += [f"fail={fail}"] if fail is not None else []
    get(port, "/origin/become?" + "&".join(query), timeout=30.0)


def answers(port: int, target: str = "/small") -> bool:
    """Whether an HTTP server answers 200 there."""
    try:
        return get(port, target).status == 200
    except OSError:
        return False


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and bench.example.com (ECDSA P-256) and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench.example.com")])
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [
        x509.DNSName("bench.example.com"),
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    paths[1].chmod(0o600)
    return paths


def wrk_version() -> str:
    """What wrk calls itself, or that it is missing."""
    program = shutil.which("wrk")
    if program is None:
        return "not installed"
    done = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).split("[")[0].removeprefix("wrk").strip()
