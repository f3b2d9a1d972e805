"""What good texts become: paths, listeners, addresses, interpolation, what depends on the machine."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.config import (
    AccessLog,
    Config,
    Gateway,
    Listen,
    environment,
    filled,
    load,
    parse,
    parse_listen,
    passes,
    warnings,
    worker_count,
)

Read = Callable[..., Config]


@pytest.mark.parametrize(
    ("text", "listen", "written"),
    [
        ("127.0.0.1:8080", Listen("tcp", "127.0.0.1", 8080), "127.0.0.1:8080"),
        ("[::]:80", Listen("tcp", "::", 80), "[::]:80"),
        ("[0:0::1]:0", Listen("tcp", "::1", 0), "[::1]:0"),
        (":8080", Listen("tcp", "", 8080), ":8080"),
        ("localhost:80", Listen("tcp", "localhost", 80), "localhost:80"),
        ("https://0.0.0.0:443", Listen("tcp", "0.0.0.0", 443, tls=True), "https://0.0.0.0:443"),
        ("https://[::1]", Listen("tcp", "::1", 443, tls=True), "https://[::1]:443"),
        ("http://127.0.0.1/", Listen("tcp", "127.0.0.1", 80), "127.0.0.1:80"),
        ("unix:run/g.sock", Listen("unix", path="/srv/run/g.sock"), "unix:/srv/run/g.sock"),
        ("unix:/run/g.sock", Listen("unix", path="/run/g.sock"), "unix:/run/g.sock"),
    ],
)
def test_listeners(text: str, listen: Listen, written: str) -> None:
    assert parse_listen(text, "/srv") == listen
    assert listen.text == str(listen) == written
    assert parse_listen(written) == listen


def test_a_unix_path_must_fit_the_kernel() -> None:
    with pytest.raises(ValueError, match="107 bytes at most"):
        parse_listen("unix:" + "x" * 108, "/")


def test_paths_are_relative_to_the_file_and_some_to_data_dir(read: Read, tmp_path: Path) -> None:
    config = read('[gateway]\ndata_dir = "state"\nlog = "triage.log"\n')
    assert config.gateway.data_dir == f"{tmp_path}/state"
    assert config.gateway.access_log == AccessLog(f"{tmp_path}/state/logs/access.jsonl", "json")
    assert config.gateway.log == f"{tmp_path}/state/triage.log"
    assert config.admin.socket == f"{tmp_path}/state/run/admin.sock"
    process = config.apps["web"].process
    assert process is not None
    assert process.cwd == str(tmp_path)


def test_a_relative_file_name_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    assert load("config.toml").gateway.data_dir == f"{tmp_path}/var"


def test_two_lines_are_enough(tmp_path: Path) -> None:
    """Only a root that starts apps has to say a word more."""
    user = 'user = "root"' if os.geteuid() == 0 else ""
    config = parse(
        f'[apps.web.process]\ncommand = "uvicorn app:app --port {{port}}"\n{user}', tmp_path / "c.toml"
    )
    assert config.apps["web"].max_inflight == 100


def test_the_access_log_in_its_three_forms(read: Read, tmp_path: Path) -> None:
    assert read("[gateway]\naccess_log = false").gateway.access_log is None
    short = read('[gateway]\naccess_log = "/log/a"').gateway.access_log
    assert short == AccessLog("/log/a", "json")
    table = read('[gateway]\naccess_log = { format = "combined" }').gateway.access_log
    assert table == AccessLog(f"{tmp_path}/var/logs/access.jsonl", "combined")


def test_addresses(read: Read, folder: Path) -> None:
    config = read(
        "[apps.web]\naddresses = ["
        '"http://A.example", "https://[::1]:8443/", "unix:app.sock",'
        '{ url = "http://10.0.0.6:8000", name = "b", weight = 2, backup = true, tls = { ca = "ca.pem" } }]',
        process="",
    )
    plain, secure, unix, table = config.apps["web"].addresses
    assert (plain.url, plain.name, plain.host, plain.port) == (
        "http://a.example:80", "a.example:80", "a.example", 80,
    )  # fmt: skip
    assert (secure.name, secure.host, secure.port, secure.secure) == ("[::1]:8443", "::1", 8443, True)
    assert (unix.kind, unix.path, unix.name, unix.host) == (
        "unix",
        f"{folder}/app.sock",
        f"{folder}/app.sock",
        "",
    )
    assert (table.name, table.weight, table.backup, table.tls.ca) == ("b", 2.0, True, f"{folder}/ca.pem")


def test_hosts_and_networks_are_normalised(read: Read) -> None:
    config = read(
        '[gateway]\ntrusted_proxies = ["10.0.0.0/8", "::1"]\n'
        '[apps.web]\nhosts = ["Example.COM.", "*.Bücher.example"]\n'
    )
    assert config.gateway.trusted_proxies == ("10.0.0.0/8", "::1/128")
    assert config.apps["web"].hosts == ("example.com", "*.xn--bcher-kva.example")


def test_environment_variables_in_texts(read: Read) -> None:
    process = read(
        '[apps.web.process.env]\nA = "${HERE}/x"\nB = "${GONE:-default}"\nC = "${EMPTY:-default}"\n'
        'D = "$${HERE} $HERE"\nE = "${EMPTY}"\n',
        environ={"HERE": "here", "EMPTY": ""},
    ).apps["web"].process  # fmt: skip
    assert process is not None
    assert process.env == {"A": "here/x", "B": "default", "C": "default", "D": "${HERE} $HERE", "E": ""}


def test_a_version_that_is_not_known_is_as_good_as_none(read: Read) -> None:
    process = read('[apps.web.process.stop]\n[apps.web.process.env]\n').apps["web"].process  # fmt: skip
    assert process is not None
    assert process.version is None
    text = '[apps.web.process]\ncommand = "app"\nuser = "root"\nversion = "${GIT_SHA:-}"\n'
    other = read(text, process="").apps["web"].process
    assert other is not None
    assert other.version is None


def test_statuses(read: Read) -> None:
    config = read('[apps.web.health]\nstatus = ["200-299", 404, ">=599"]')
    assert config.apps["web"].health.status == ((200, 299), (404, 404), (599, 599))
    assert passes(204, config.apps["web"].health.status)
    assert not passes(302, config.apps["web"].health.status)


def test_workers() -> None:
    assert worker_count(Gateway(workers=7)) == 7
    assert worker_count(Gateway()) == min(4, len(os.sched_getaffinity(0)))


def test_placeholders_are_filled_once() -> None:
    values = {"port": 8000, "socket": "/{port}"}
    command = ["--bind=:{port}", "{socket}", "{other}", "${port}", '{"a": {port}}', "{"]
    assert filled(command, values) == ["--bind=:8000", "/{port}", "{other}", "${port}", '{"a": 8000}', "{"]


def test_what_an_instance_inherits(read: Read) -> None:
    text = 'inherit_env = ["PATH", "APP_*"]\nenv = { PATH = "/own" }\n'
    process = read(text, process='[apps.web.process]\ncommand = "app"\nuser = "root"\n').apps["web"].process
    assert process is not None
    outer = {"PATH": "/bin", "HOME": "/root", "APP_A": "1", "APPX": "2"}
    assert environment(process, outer) == {"PATH": "/own", "APP_A": "1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"apps\.web\.health\.path: .* which a hung app passes"),
        ('[apps.web.health]\ninterval = "1s"', r"health\.timeout: 2s is longer than the interval"),
        (
            '[apps.web.timeouts]\ntotal = "5s"',
            r"timeouts\.total: 5s ends a request before 1 attempt of first_byte",
        ),
        (
            '[apps.web]\nretries = { on = ["head-timeout"] }\ntimeouts = { total = "1m" }',
            r"timeouts\.total: 1m ends a request before 3 attempts of first_byte \(30s\)",
        ),
        (
            '[apps.web]\nqueue = { timeout = "40s" }',
            r"queue\.timeout: 40s is longer than timeouts\.first_byte",
        ),
        ('[apps.web]\nqueue = { timeout = "0s" }', r"queue\.timeout: 0s, so nothing waits"),
        ("[apps.web]\nmax_inflight = 0", r"max_inflight: 0 is no limit"),
        ('[gateway]\ntrusted_proxies = ["0.0.0.0/0"]', r"trusted_proxies: 0\.0\.0\.0/0 is everybody"),
        ('[admin]\nlisten = ":9900"\ninsecure = true', r"admin\.insecure: :9900 is open to the network without TLS"),
        ("[admin]\ninsecure = true", r"admin\.insecure: does nothing, as 127\.0\.0\.1:9900 is loopback"),
        ('[admin]\ncertificate = { cert = "cert.pem", key = "key.pem" }', r"admin\.certificate: not used"),
        ('[[gateway.certificates]]\ncert = "cert.pem"\nkey = "key.pem"', r"certificates: not used"),
    ],
)
def test_remarks(read: Read, folder: Path, text: str, said: str) -> None:
    assert any(re.search(said, remark) for remark in warnings(read(text)))


def test_nothing_is_remarked_without_reason(read: Read) -> None:
    remarks = warnings(read('[apps.web.health]\npath = "/healthz"'))
    assert [remark for remark in remarks if "process.user" not in remark] == []
