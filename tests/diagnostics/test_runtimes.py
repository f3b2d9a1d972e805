"""Stacks and profiles of real programs in their own languages, and what is said where there are none."""

from __future__ import annotations

import http.client
import shutil
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from proxy.diagnostics import proc
from proxy.diagnostics.artifacts import Profile, ProfileStack, Stacks
from proxy.diagnostics.collectors import stacks as stacks_
from proxy.diagnostics.collectors.profile import speedscope
from proxy.diagnostics.runtimes import inspector, java, native, node
from proxy.diagnostics.runtimes.python import folded
from proxy.diagnostics.subject import Subject
from proxy.link.session import Input
from tests.diagnostics.sessions import artifact, instance, known, python, run, running, step, until

NODE = """
const http = require("http");
function crunch(ms) { const end = Date.now() + ms; let x = 1; while (Date.now() < end) x = Math.sqrt(x + 1); return x; }
const server = http.createServer((request, response) => {
  if (request.url === "/block") crunch(600000);
  response.end("ok");
});
server.listen(0, "127.0.0.1", () => console.log("ready " + server.address().port));
"""
DEADLOCK = """
import threading, time
left, right = threading.Lock(), threading.Lock()
met = threading.Barrier(2)

def first():
    with left:
        met.wait()
        right.acquire()

def second():
    with right:
        met.wait()
        left.acquire()

for work in (first, second):
    threading.Thread(target=work, name=work.__name__, daemon=True).start()
time.sleep(0.2)
print("ready", flush=True)
time.sleep(1000)
"""
FORKED = """
import os, socket, time
server = socket.create_server(("127.0.0.1", 0))

def worker():
    accepted = [server.accept()]
    total = 0
    while True:
        total += sum(range(1000))

children = []
for number in range(12):
    pid = os.fork()
    if pid == 0:
        if number == 11:
            client = socket.create_connection(server.getsockname())
            worker()
        time.sleep(1000)
    children.append(pid)
time.sleep(0.3)
print("ready", children[-1], flush=True)
time.sleep(1000)
"""
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="no node here")


@pytest.fixture
def blocked(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """A node app with its inspector open: pid and port."""
    yield from _node("--inspect=0", tmp_path)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """The same without."""
    yield from _node("--inspect-port=0", tmp_path)


def _node(option: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Not compiled: the compiler may put the body of one function into another, and then that one is seen."""
    (folder / "app.js").write_text(NODE)
    with running("node", "--jitless", option, str(folder / "app.js"), env={"NODE_OPTIONS": ""}) as (process, words):
        yield process.pid, int(words[0])


def block(port: int, pid: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask() -> None:
        try:
            connection.request("GET", "/block")
            connection.getresponse()
        except (OSError, http.client.HTTPException):
            pass  # the app is killed at the end

    threading.Thread(target=ask, daemon=True).start()
    before = proc.stat(proc.PROC / str(pid)).cpu
    until(lambda: proc.stat(proc.PROC / str(pid)).cpu > before + 0.2, "it computes")


@needs_node
@pytest.mark.slow
def test_a_blocked_loop_is_seen_in_its_middle_where_the_inspector_is_open(
    tmp_path: Path, blocked: tuple[int, int]
) -> None:
    pid, port = blocked
    one = instance("web-1", pid, address=f"127.0.0.1:{port}")
    until(lambda: node.stacks(pid, "node", frozenset({port})).threads[0].frames[0].function == node.IDLE, "it waits")
    block(port, pid)
    found = run(tmp_path, one, collectors=["stacks", "profile"], seconds=1.5)
    assert [step(found, name).state for name in ("stacks", "profile")] == ["done", "done"], found
    taken = artifact(tmp_path, Stacks)
    assert taken.runtime == "node" and len(taken.rounds) == 3
    for each in taken.rounds:
        (process,) = each.processes
        assert process.how == "inspector" and process.threads[0].name == "main"
        frame = process.threads[0].frames[0]
        assert (frame.function, frame.file.rpartition("/")[2]) == ("crunch", "app.js")
        assert len(process.threads) > 4, "its helpers are there too, by the kernel's word"
    profile = artifact(tmp_path, Profile)
    assert profile.how == "inspector" and profile.samples > 0.8 * profile.possible > 20
    leaf = profile.stacks[0].frames[-1]
    assert leaf.startswith("crunch (") and leaf.endswith("app.js:3)"), leaf


@needs_node
@pytest.mark.slow
def test_without_an_inspector_node_is_left_alone_and_the_kernel_is_asked(
    tmp_path: Path, closed: tuple[int, int]
) -> None:
    pid, port = closed
    block(port, pid)
    one = instance("web-1", pid, address=f"127.0.0.1:{port}")
    found = run(tmp_path, one, collectors=["stacks", "profile"], seconds=1.0)
    assert step(found, "stacks").state == "done" and "its inspector is not open" in step(found, "stacks").why
    assert (step(found, "profile").state, step(found, "profile").why) == ("not there", "its inspector is not open")
    (process,) = artifact(tmp_path, Stacks).rounds[0].processes
    (main,) = [thread for thread in process.threads if thread.id == pid]
    assert process.how == "kernel" and main.active
    assert [one.port for one in inspector.listening(pid)] == [port], "nothing was opened"
    opened = tmp_path / "opened"
    opened.mkdir()
    found = run(opened, one, collectors=["stacks"], app={"inspect": True})
    taken = artifact(opened, Stacks).rounds[0].processes[0]
    assert taken.how == "inspector" and taken.threads[0].frames[0].file.endswith("app.js"), found
    assert http_answers_stay_away(port) and proc.stat(proc.PROC / str(pid)).state == "R"


def http_answers_stay_away(port: int) -> bool:
    """Its loop is still blocked, as it was before."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.2)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except TimeoutError:
        return True
    finally:
        connection.close()
    return False


@pytest.mark.slow
def test_a_deadlock_stands_at_the_same_lines_in_all_rounds(tmp_path: Path) -> None:
    with running(*python(DEADLOCK)) as (process, _):
        found = run(tmp_path, instance("web-1", process.pid), collectors=["stacks", "profile"], seconds=2.0)
    assert step(found, "profile").state == "done", found
    seen = []
    for one in artifact(tmp_path, Stacks).rounds:
        (taken,) = one.processes
        places = {
            thread.name: (thread.frames[0].function, thread.frames[0].line, thread.wchan) for thread in taken.threads
        }
        seen.append({name: places[name] for name in ("first", "second")})
    assert seen[0] == seen[1] == seen[2]
    assert seen[0]["first"][0] == "first" and "futex" in str(seen[0]["first"][2])
    profile = artifact(tmp_path, Profile)
    assert profile.possible > 20 and profile.samples < 0.1 * profile.possible, "nothing ran but what a dump woke"


@pytest.mark.slow
def test_a_process_of_many_threads_is_read_while_it_runs() -> None:
    code = """
import threading, time
def work(turn):
    while turn:
        sum(range(500))
    time.sleep(1000)
for number in range(60):
    threading.Thread(target=work, args=(number < 3,), daemon=True).start()
print("ready", flush=True)
time.sleep(1000)
"""
    with running(*python(code)) as (process, _):
        found = stacks_.of(process.pid, "python", Subject(Input(id="S-1", app="web", at=0.0, known=known())))
    assert (found.how, len(found.threads)) == ("py-spy", 61), found.why
    functions = [thread.frames[0].function for thread in found.threads if thread.frames]
    assert functions.count("work") >= 57, "those that sleep are read as they are"


@pytest.mark.slow
def test_of_many_workers_those_that_serve_are_looked_at_and_sampled(tmp_path: Path) -> None:
    with running(*python(FORKED)) as (process, words):
        busy = int(words[0])
        began, used = time.monotonic(), proc.stat(proc.PROC / str(busy)).cpu
        found = run(tmp_path, instance("web-1", process.pid), collectors=["stacks", "profile"], seconds=2.0)
        share = (proc.stat(proc.PROC / str(busy)).cpu - used) / (time.monotonic() - began)
    assert "of 13 processes 8" in step(found, "stacks").why
    for one in artifact(tmp_path, Stacks).rounds:
        pids = [taken.pid for taken in one.processes]
        assert pids[0] == busy and process.pid in pids and len(pids) == 8
    profile = artifact(tmp_path, Profile)
    # As often as it ran: where the machine has more to do than cores, that is not always.
    assert profile.pid == busy and profile.samples > 0.3 * share * profile.possible, (share, profile)
    assert "worker" in profile.stacks[0].frames[-1] or "worker" in profile.stacks[0].frames[-2]
    assert profile.gil is not None and profile.gil > 0.3 * share, (share, profile.gil)
    assert profile.files == {"speedscope": "profile.speedscope.json"}
    assert (tmp_path / "web-1/profile.speedscope.json").stat().st_size > 100


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("jcmd") is None or shutil.which("java") is None, reason="no JDK here")
def test_a_jvm_tells_its_threads_and_their_locks(tmp_path: Path) -> None:
    source = tmp_path / "Wait.java"
    source.write_text("""
        public class Wait {
            static final Object lock = new Object();
            static void enter() { synchronized (lock) { } }
            public static void main(String[] given) throws Exception {
                synchronized (lock) {
                    new Thread(Wait::enter, "blocked").start();
                    Thread.sleep(300);
                    System.out.println("ready");
                    Thread.sleep(100000);
                }
            }
        }""")
    with running("java", "-Xmx64m", "-XX:TieredStopAtLevel=1", str(source)) as (process, _):
        assert proc.runtime(process.pid) == "java"
        found = java.stacks(process.pid, "java")
    assert found.how == "jcmd", found.why
    (blocked,) = [thread for thread in found.threads if thread.name == "blocked"]
    assert blocked.frames[0].function == "Wait.enter" and blocked.frames[0].file == "Wait.java"
    assert "waiting to lock" in blocked.note and not blocked.active


def test_a_jvm_that_the_question_could_end_is_not_asked() -> None:
    if shutil.which("jcmd") is None:
        pytest.skip("no JDK here")
    code = "import time; print('ready', flush=True); time.sleep(1000)"
    with running(*python(code), "-Xrs") as (process, _):
        found = java.stacks(process.pid, "java")
        assert found.why == "its JVM was started so that it can't be asked safely"
        assert process.poll() is None


def test_what_eu_stack_prints_is_read() -> None:
    text = """PID 12 - process
TID 12:
#0  0x00007f0a3b2e2d8e - 1 epoll_wait
#1  0x0000556cd38d2f4c     uv__io_poll.part.0
#2  0x0000556cd38d3f4c
TID 13:
#0  0x00007f0a3b2e2d8e     __futex_abstimed_wait_common
eu-stack: dwfl_thread_getframes tid 14: no matching address range
"""
    first, second = native.read(text)
    assert [frame.function for frame in first.frames] == ["epoll_wait", "uv__io_poll.part.0", "??"]
    assert (second.id, second.frames[0].function) == (13, "__futex_abstimed_wait_common")


def test_a_program_of_no_known_runtime_tells_where_the_kernel_has_it(tmp_path: Path) -> None:
    code = "print('ready', flush=True); import os; os.execvp('sleep', ['sleep', '99'])"
    with running(*python(code)) as (process, _):
        until(lambda: proc.maybe_runtime(process.pid) == "native", "it is another program now")
        task = proc.PROC / str(process.pid) / "task" / str(process.pid)
        until(lambda: stacks_.kernel.syscall(task) == "clock_nanosleep", "it sleeps")
        taken = stacks_.kernel.stacks(process.pid, "sleep")
    assert [thread.note for thread in taken.threads] == ["clock_nanosleep"]
    assert taken.how == "kernel" and not taken.threads[0].active


def test_rounds_of_a_long_session_do_not_overlap() -> None:
    assert stacks_.when(0) == stacks_.when(9) == [0, 1, 2]
    for seconds in (10, 11.5, 30, 600):
        times = stacks_.when(seconds)
        assert len(times) == 9 and times[-1] <= seconds
        assert all(later - sooner >= 1 for sooner, later in pairwise(times))


def test_folded_stacks_and_their_speedscope() -> None:
    text = "process 7:\"python -c\nx = 1; y = 2\";main (a.py:1);work (a.py:2) 3\n"
    text += "main (a.py:1) 2\nno count\nmain (a.py:1) 1\n"
    found = folded(text)
    assert found == {("main (a.py:1)", "work (a.py:2)"): 3, ("main (a.py:1)",): 3}
    stacks = [ProfileStack(frames=list(frames), samples=count) for frames, count in found.items()]
    data = speedscope(Profile(pid=7, seconds=2.0, rate=50, stacks=stacks))
    (profile,) = data["profiles"]
    frames = [one["name"] for one in data["shared"]["frames"]]
    assert [[frames[at] for at in stack] for stack in profile["samples"]] == [list(each) for each in found]
    assert profile["weights"] == [3, 3] and profile["endValue"] == 6
