import re
from pathlib import Path

from proxy.config import Config, Listen, parse
from proxy.control import ledger, reload, routing
from proxy.control.state import Admission, AppState, Events, Exit, InstanceState, Lifecycle, SuspectRequest
from proxy.control.version import generation
from proxy.link import messages as link
from proxy.link.spawn import Listener

TEXT = """
[gateway]
workers = 2
limits = { connections = 1000 }
[apps.web]
max_inflight = 7
sticky = { cookie = "c", ttl = "2h" }
[apps.web.process]
command = "app {port}"
user = "root"
instances = 3
[apps.far]
paths = ["/far"]
max_inflight = "adaptive"
addresses = ["https://10.0.0.5:8443", { url = "http://10.0.0.6:8000", name = "b", weight = 2, backup = true }]
"""


def config(tmp_path: Path, text: str = TEXT) -> Config:
    return parse(text, tmp_path / "config.toml")


def web(config: Config) -> AppState:
    app = AppState("web", config.apps["web"], 0, wanted=3)
    for number, lifecycle in enumerate(Lifecycle):
        name = f"web-{number}"
        app.instances[name] = InstanceState(name, "web", "process", number, lifecycle, port=5000 + number)
    return app


def table(config: Config, *apps: AppState) -> link.Table:
    return routing.table(5, 2, config, apps, "ab", {"502": "<p>"}, 100.0)


def test_only_ready_instances_are_in_the_table(tmp_path: Path) -> None:
    app = web(config(tmp_path))
    found = table(config(tmp_path), app).apps[0]
    ready = [state.name for state in app.instances.values() if state.lifecycle is Lifecycle.READY]
    assert [one.name for one in found.instances] == ready
    assert found.starting == 3, "starting, warming and backoff"
    assert (found.wanted, found.instances[0].slots, found.sticky_ttl) == (3, 7, 7200.0)


def test_requests_may_wait_for_an_app_that_was_just_added(tmp_path: Path) -> None:
    app = AppState("web", config(tmp_path).apps["web"], 0, wanted=3)
    assert table(config(tmp_path), app).apps[0].starting == 3, "none is made yet, but all will be"
    app.instances["web-1"] = InstanceState("web-1", "web", "process", 1, Lifecycle.STOPPING, port=5001)
    assert table(config(tmp_path), app).apps[0].starting == 3, "it goes, another comes"
    for number in (2, 3, 4):
        app.instances[f"web-{number}"] = InstanceState(
            f"web-{number}", "web", "process", number, Lifecycle.FAILED, port=5000 + number
        )
    assert table(config(tmp_path), app).apps[0].starting == 0, "nothing is to be hoped for"


def test_the_table_is_the_same_after_its_journey(tmp_path: Path) -> None:
    made = table(config(tmp_path), web(config(tmp_path)))
    assert link.decode_to_worker(link.encode(made)) == made


def test_an_address_has_its_tls_weight_and_admission(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    app = AppState("far", cfg.apps["far"], 1, wanted=2)
    for row, address in enumerate(cfg.apps["far"].addresses):
        app.instances[address.url] = InstanceState(
            address.url, "far", "address", row, Lifecycle.READY, Admission.EJECTED, url=address.url,
            weight=address.weight, backup=address.backup, host=address.host, port=address.port,
        )  # fmt: skip
    first, second = table(cfg, app).apps[0].instances
    assert first.tls == link.Tls(None, True, "10.0.0.5")
    assert second.tls is None
    assert (second.weight, second.backup, second.admission) == (2, True, "ejected")
    assert (first.slots, table(cfg, app).apps[0].adaptive) == (0, True)


def test_suspects_of_the_past_are_left_out(tmp_path: Path) -> None:
    app = web(config(tmp_path))
    app.suspects = [SuspectRequest("GET", "/a", "1", 0, 99.0), SuspectRequest("GET", "/b", "2", 0, 101.0)]
    assert table(config(tmp_path), app).apps[0].suspects == (("GET", "/b"),)


def test_a_worker_gets_its_share_of_connections(tmp_path: Path) -> None:
    assert table(config(tmp_path)).settings.connections_limit == 500


def test_each_gateway_has_a_name_of_its_own_in_via(tmp_path: Path) -> None:
    """Else a row of gateways would be taken for a loop. It says nothing of the secret that it comes from."""
    ids = [routing.settings(config(tmp_path), 2, secret, {}).gateway_id for secret in ("a1" * 32, "a1" * 32, "b2" * 32)]
    assert ids[0] == ids[1] != ids[2]
    assert re.fullmatch("[0-9a-f]{8}", ids[0]) and ids[0] not in "a1" * 32


def test_the_ledger_is_read_as_it_was_written(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    app = web(cfg)
    app.instances["web-2"].last_exit = Exit(1.0, 2.0, code=3, words="exit code 3", last_lines=("a", "b"), name="web-1")
    app.ended.append(app.instances["web-2"].last_exit)
    app.suspects.append(SuspectRequest("GET", "/a", "1", 0.0, 5.0))
    process = cfg.apps["web"].process
    assert process is not None
    events = Events(7)
    events.add("ready", "x", "web", "web-2", pid=4)
    text = ledger.Writer().write(
        TEXT,
        5,
        [app],
        {name: generation(process) for name in app.instances},
        {generation(process): process},
        events,
        {"web": 9},
        {"operations": {"next": 3}},
    )
    known = ledger.read(text)
    assert {state.name: state for state, _ in known.instances} == app.instances
    assert known.processes == {generation(process): process}
    assert (known.table, known.config_text, known.next_event) == (5, TEXT, 8)
    assert known.events == list(events)
    assert known.suspects == {"web": app.suspects}
    assert known.ended == {"web": list(app.ended)}
    assert known.parts == {"operations": {"next": 3}}


def test_a_ledger_that_cannot_be_read_is_as_good_as_none() -> None:
    for text in (None, b"", b"{", b"[]", b'{"version": 99}', b'{"version": 1}'):
        assert ledger.read(text) == ledger.Known()


def test_what_only_a_start_can_change_waits(tmp_path: Path) -> None:
    old = config(tmp_path)
    new = config(
        tmp_path, TEXT.replace("[gateway]", '[gateway]\ndata_dir = "other"') + '[admin]\nlisten = "127.0.0.1:1"\n'
    )
    kept, waits = reload.kept(old, new)
    assert len(waits) == 2
    assert kept == old


def test_listeners_are_known_by_their_place() -> None:
    def listener(name: str) -> Listener:
        return Listener(name=name, kind="tcp", host="127.0.0.1", port=41234, path="", sockets=[name])

    present = [listener("127.0.0.1:0"), listener("127.0.0.1:80"), listener("admin")]
    wanted = (Listen("tcp", "127.0.0.1", 0), Listen("tcp", "127.0.0.1", 80, tls=True), Listen("tcp", "::1", 80))
    add, close = reload.listeners(wanted, present)
    assert [one["name"] for one in add] == ["[::1]:80"]
    assert close == []
    assert reload.speaking_tls(wanted, present) == {"127.0.0.1:80"}, "the same socket speaks TLS from now on"
    assert reload.listeners(wanted[:1], present) == ([], ["127.0.0.1:80"])


def test_a_count_replaces_no_instance(tmp_path: Path) -> None:
    one, two = config(tmp_path).apps["web"].process, config(tmp_path, TEXT.replace("= 3", "= 4")).apps["web"].process
    three = config(tmp_path, TEXT.replace("app {port}", "app {port} -v")).apps["web"].process
    assert one is not None and two is not None and three is not None
    assert generation(one) == generation(two) != generation(three)
