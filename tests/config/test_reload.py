"""What a reload is told: which apps came, went, changed, and what waits for the next start."""

from collections.abc import Callable

from proxy.config import AppChange, Changes, Config, diff

Read = Callable[..., Config]


def test_nothing_changed(read: Read) -> None:
    changes = diff(read("[apps.web.health]\n"), read("# a comment\n"))
    assert changes == Changes()
    assert not changes


def test_apps_come_and_go(read: Read) -> None:
    old = read('[apps.old]\npaths = ["/old"]\naddresses = ["http://a"]')
    new = read('[apps.new]\npaths = ["/new"]\naddresses = ["http://a"]')
    assert diff(old, new) == Changes(added=("new",), removed=("old",))


def test_data_plane_keys_leave_the_instances_alone(read: Read) -> None:
    new = read("[apps.web]\nmax_inflight = 5\nqueue = { size = 1 }")
    change = diff(read(""), new).changed["web"]
    assert change == AppChange(keys=("max_inflight", "queue"))
    assert not change.process
    assert not change.fresh_instances


def test_a_count_needs_no_fresh_instances(read: Read) -> None:
    process = '[apps.web.process]\nuser = "root"\n'
    old = read('command = "app"', process=process)
    more = diff(old, read('command = "app"\ninstances = 3', process=process)).changed["web"]
    assert (more.process, more.process_keys, more.fresh_instances) == (True, ("instances",), False)
    other = diff(old, read('command = "other"', process=process)).changed["web"]
    assert (other.process, other.process_keys, other.fresh_instances) == (True, ("command",), True)


def test_what_waits_for_the_next_start(read: Read) -> None:
    new = read(
        '[gateway]\ndata_dir = "elsewhere"\nslow = "2s"\n[admin]\nlisten = "127.0.0.1:1"\nmetrics = true'
    )
    changes = diff(read(""), new)
    assert changes.at_next_start == ("gateway.data_dir", "admin.listen")
    assert "slow" in changes.gateway
    assert "data_dir" not in changes.gateway
    assert "metrics" in changes.admin


def test_the_rest(read: Read) -> None:
    new = read('[keep]\nstore = "1GB"\n[notify.ops]\nemail = "a@b"')
    assert diff(read(""), new) == Changes(keep=("store",), alerting=True)
