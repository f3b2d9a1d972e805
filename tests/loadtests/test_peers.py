"""Each peer's own program accepts the configuration written for it, serves every work, and leaves nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from loadtests import bench, procs
from loadtests.ask import get
from loadtests.lab import Lab
from loadtests.peers import PEERS, Peer, start
from loadtests.stage import Stage, stage
from loadtests.works import WORKS

pytestmark = pytest.mark.slow


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture
def standing(lab: Lab) -> Stage:
    return stage(lab)


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> Peer:
    found = PEERS[request.param]
    if not found.find():
        pytest.skip(f"{found.name} is not installed: {found.get}")
    return found


def test_it_accepts_its_configuration(peer: Peer, standing: Stage) -> None:
    program = peer.find()
    assert program is not None
    command = peer.prepare(program, standing.site(peer.name))
    done = subprocess.run(
        [str(part) for part in command.check], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert peer.version(program) != "?"


def test_it_serves_every_work_and_logs_it(peer: Peer, standing: Stage) -> None:
    running = start(standing.lab, peer, standing.site(peer.name))
    for work in WORKS.values():
        bench.check(running.site.tls_port if work.tls else running.site.port, work)
    pids = running.pids()
    assert procs.memory(pids).rss >= procs.memory(pids).pss > 0
    standing.lab.end(running.process)  # what is buffered is written at the end
    assert running.site.log.read_text().count("\n") >= len(WORKS)
    assert all(procs.stat(pid) is None for pid in pids)


def test_the_request_reaches_the_origin_with_what_a_proxy_adds(peer: Peer, standing: Stage) -> None:
    """Peers do the same work: each answers with a request id of its own making."""
    running = start(standing.lab, peer, standing.site(peer.name))
    ids = {get(running.site.port, "/small").fields.get("x-request-id", "") for _ in range(3)}
    assert len(ids) == 3
    assert all(len(each) >= 8 for each in ids)


def test_a_run_with_a_wrong_answer_has_no_figures(standing: Stage) -> None:
    peer = PEERS["nginx"]
    if not peer.find():
        pytest.skip(f"nginx is not installed: {peer.get}")
    running = start(standing.lab, peer, standing.site(peer.name))
    wrong = WORKS["16k"].__class__("wrong", "wrong length", "/16k", 17, limit=1.0)
    found = bench.measure(running, wrong, 0, 1.0, standing.lab.folder)
    assert "16384 bytes" in found.error
    assert found.cpu == 0.0
