"""The agent in real programs, under each Python that is at hand."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.agent.inside import FOLDER, LONG, environment, listening, pythons, run

pytestmark = pytest.mark.slow

SHOP = """
    import json, os, sys, threading

    def price(item):
        if item:
            raise ValueError("no price for %s" % item)

    def tolerant():
        try:
            price("tea")
        except ValueError:
            return 1

    def reads():
        try:
            json.loads("{")
        except ValueError:
            return 1

    def again():
        try:
            price("salt")
        except ValueError:
            raise

    def inner():
        return (lambda: {}["missing"])()

    def numbers():
        yield 1
        yield 2
"""


@pytest.fixture(scope="module", params=pythons(), ids=lambda path: str(path).rpartition("/")[2])
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_caught_uncaught_and_what_is_none(python: str, tmp_path: Path) -> None:
    source = SHOP + """
    for _ in range(3):
        tolerant()
        reads()
    try:
        again()
    except ValueError:
        pass
    try:
        inner()
    except KeyError:
        pass
    assert sum(numbers()) == 3
    assert os.environ.get("NOT_THERE") is None       # a KeyError within the library
    thread = threading.Thread(target=price, args=("oil",))
    thread.start()
    thread.join()
    price("end")
    """
    with listening() as heard:
        ended = run(tmp_path, source, heard.path, python=python)
    assert ended.returncode == 1
    assert ended.stderr.rstrip().endswith("ValueError: no price for end")
    assert 'main.py", line 6, in price' in ended.stderr, "line numbers stay"
    assert heard.sums() == {
        "ValueError price": (6, 4, 2), "json.decoder.JSONDecodeError reads": (3, 3, 0), "KeyError <lambda>": (1, 1, 0),
    }  # fmt: skip
    assert [one[2].split(".")[:2] for one in heard.hellos]
    told = next(one for one in heard.raised if one.type == "ValueError")
    assert told.frames[-1][1:] == ["6", "price"]


def test_the_program_is_what_it_is_without(python: str, tmp_path: Path) -> None:
    source = SHOP + """
    print(__name__, __file__.endswith("main.py"), __spec__, sys.argv[1:], os.path.basename(sys.path[0]) or "here")
    print(sorted(name for name in globals() if name.startswith("__")))
    print([one for one in sys.path if "agent" in one], "_triage_agent" in sys.modules and "loaded")
    print(price.__doc__, price.__code__.co_firstlineno, price.__code__.co_varnames)
    import helper
    print(helper.twice(4), helper.__file__.endswith("helper.py"), helper.__cached__ is not None)
    """
    (tmp_path / "helper.py").write_text('"""Doc."""\nfrom __future__ import annotations\ndef twice(x): return 2 * x\n')
    with listening() as heard:
        with_agent = run(tmp_path, source, heard.path, python=python, args=("main.py", "a", "b"))
    without = run(tmp_path, source, "", python=python, args=("main.py", "a", "b"), PYTHONPATH="", TRIAGE_AGENT="")
    assert with_agent.returncode == without.returncode == 0, with_agent.stderr
    expected = without.stdout.replace("[] False", "[] loaded")
    assert with_agent.stdout == expected
    assert with_agent.stderr == without.stderr == ""


def test_children_by_fork(python: str, tmp_path: Path) -> None:
    source = SHOP + """
    tolerant()
    for _ in range(3):
        pid = os.fork()
        if not pid:
            tolerant()
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    tolerant()
    """
    with listening() as heard:
        ended = run(tmp_path, source, heard.path, python=python, args=("-W", "error", "main.py"))
    assert (ended.returncode, ended.stderr) == (0, ""), "a fork with threads warns from 3.12 on"
    assert heard.sums() == {"ValueError price": (5, 5, 0)}
    assert len(heard.hellos) == 4


def test_asyncio(python: str, tmp_path: Path) -> None:
    source = """
    import asyncio

    async def breaks(number):
        await asyncio.sleep(0)
        raise RuntimeError("number %d" % number)

    async def slow():
        await asyncio.sleep(60)

    async def main():
        found = await asyncio.gather(*(breaks(n) for n in range(5)), return_exceptions=True)
        assert all(isinstance(one, RuntimeError) for one in found)
        task = asyncio.ensure_future(slow())
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass

    asyncio.run(main())
    """
    with listening() as heard:
        ended = run(tmp_path, source, heard.path, python=python)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert heard.sums() == {"RuntimeError breaks": (5, 0, 0)}


def test_a_module_that_is_imported_and_run_by_name(python: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(textwrap.dedent(SHOP) + "\n\ndef work():\n    tolerant()\n")
    source = "import shop\nshop.work()\n"
    with listening() as heard:
        ended = run(tmp_path, source, heard.path, python=python, args=("-m", "main"))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert heard.sums() == {"ValueError price": (1, 1, 0)}


def test_a_storm_is_counted_and_told_in_few_words(python: str, tmp_path: Path) -> None:
    source = SHOP + """
    import time
    end = time.monotonic() + 2.2
    count = 0
    while time.monotonic() < end:
        tolerant()
        count += 1
    print(count)
    """
    with listening() as heard:
        ended = run(tmp_path, source, heard.path, python=python)
    count = int(ended.stdout)
    assert count > 2000
    assert heard.sums() == {"ValueError price": (count, count, 0)}
    assert len(heard.raised) <= 6


def test_many_places_are_bounded_and_said(tmp_path: Path) -> None:
    lines = ["import sys", "def f(n):"]
    for number in range(2500):
        lines += [f"    if n == {number}:", "        try: raise OSError(n)", "        except OSError: return"]
    (tmp_path / "many.py").write_text("\n".join(lines))
    with listening() as heard:
        ended = run(
            tmp_path, "import many, time\nfor n in range(2500): many.f(n)\ntime.sleep(1.5)\n"
            "from _triage_agent import report\nprint(len(report.SITES), report.STATE.unknown)\n", heard.path,
        )  # fmt: skip
    known, unknown = map(int, ended.stdout.split())
    assert known == 2000
    assert unknown >= 500
    assert heard.most <= 150


def test_nobody_listens(python: str, tmp_path: Path) -> None:
    source = SHOP + "\n    tolerant()\n    print('done')\n"
    for path in (str(tmp_path / "missing.sock"), "/", ""):
        ended = run(tmp_path, source, path, python=python)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


def test_what_it_can_not_read_of_its_own_settings_harms_nobody(tmp_path: Path) -> None:
    ended = run(tmp_path, "print('done')", "", TRIAGE_AGENT="nonsense")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


def test_the_app_s_own_sitecustomize_runs(python: str, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("import builtins\nbuiltins.mine = __file__\n")
    path = f"{FOLDER}:{tmp_path / 'own'}"
    source = "import sys, sitecustomize\nprint(mine, sitecustomize.__file__)\nprint('_triage_agent' in sys.modules)\n"
    with listening() as heard:
        ended = run(tmp_path, source, heard.path, python=python, PYTHONPATH=path)
    own = str(tmp_path / "own" / "sitecustomize.py")
    assert ended.stdout == f"{own} {own}\nTrue\n"
    assert len(heard.hellos) == 1


def test_one_that_fails_fails_as_it_would(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("import not_there_at_all\n")
    path = f"{FOLDER}:{tmp_path / 'own'}"
    with_agent = run(tmp_path, "print('done')", "", PYTHONPATH=path)
    without = run(tmp_path, "print('done')", "", PYTHONPATH=str(tmp_path / "own"))
    assert with_agent.stdout == without.stdout == "done\n"
    assert "not_there_at_all" in with_agent.stderr
    assert "not_there_at_all" in without.stderr


@pytest.mark.parametrize("flag", ["-I", "-S", "-E"])
def test_a_python_that_reads_nothing_has_no_agent(flag: str, tmp_path: Path) -> None:
    with listening() as heard:
        ended = run(
            tmp_path, "import sys\nprint('_triage_agent' in sys.modules)", heard.path, args=(flag, "main.py")
        )
    assert ended.stdout == "False\n"
    assert not heard.hellos


def test_a_syntax_error_in_the_script_is_told_as_ever(python: str, tmp_path: Path) -> None:
    with listening() as heard:
        ended = run(tmp_path, "def f(:\n", heard.path, python=python)
    assert ended.returncode == 1
    assert "runpy" not in ended.stderr
    assert "SyntaxError" in ended.stderr


def test_descriptors_that_the_app_closes_are_not_used_again(python: str, tmp_path: Path) -> None:
    """A daemon closes all; what it opens then may get the same numbers."""
    source = SHOP + """
    import socket, time
    os.closerange(3, 1024)
    pairs = [socket.socketpair() for _ in range(150)]
    for one, _ in pairs:
        one.setblocking(False)
    for _ in range(3):
        tolerant()
        time.sleep(0.6)
    heard = 0
    for one, _ in pairs:
        try:
            heard += len(one.recv(10))
        except BlockingIOError:
            pass
    print(heard)
    """
    with listening() as heard:
        ended = run(tmp_path, source, heard.path, python=python)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "0\n", "")
    assert heard.sums()["ValueError price"][0] == 3


def test_endless_recursion_stays_what_it_is(python: str, tmp_path: Path) -> None:
    source = """
    def deeper(): return deeper()
    try:
        deeper()
    except RecursionError:
        print("caught")
    """
    with listening() as heard:
        ended = run(tmp_path, source, heard.path, python=python)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "caught\n", "")


def test_an_interrupt_in_a_storm_is_not_swallowed(tmp_path: Path) -> None:
    source = SHOP + """
    import signal, time
    class Late(Exception): pass
    def late(number, frame): raise Late
    def spin():
        end = time.monotonic() + 20
        while time.monotonic() < end:
            tolerant()
    signal.signal(signal.SIGALRM, late)
    got = 0
    for _ in range(100):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.004)
            spin()
        except Late:
            got += 1
    print(got)
    """
    with listening() as heard:
        ended = run(tmp_path, source, heard.path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "100\n", "")


def test_python_2_would_find_nothing_to_stumble_over() -> None:
    """Any Python may read this file: no form of speech in it is newer than the oldest."""
    source = (FOLDER / "sitecustomize.py").read_text()
    assert not any(word in source for word in ('f"', ":=", "match ", " -> ", "async "))
    assert environment("x")["PYTHONPATH"] == str(FOLDER)
    checked = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"compile({source!r}, 'x', 'exec')"], check=False, timeout=LONG
    )
    assert checked.returncode == 0
