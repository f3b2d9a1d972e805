"""Before 3.12: marks in the app's own modules, put there as they are imported; line numbers stay.

A function's body is put into a `try` whose handler reports and raises again, and each `except` reports first thing. On
3.11 that costs nothing while nothing is raised, before it some nanoseconds a call. Compiled files are neither read
nor written for such modules. sys.settrace would see more, and makes all code many times slower.

A script that is run as a file is not imported. CPython asks sys.path_hooks whether the file is an archive with a
`__main__` in it; the hook here says yes, once, and sets right what that changes.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)

from .report import IGNORED, SITES, STATE, failed, note, origin, own, site
from .report import _own as known

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from types import CodeType
    from typing import Any

FILE = 400_000
"""Bytes of a source file; larger ones are data."""
TOGETHER = 4_000_000
"""Bytes of all that is marked: modules after that are imported as ever."""
PASSED, CAUGHT, AGAIN, MAIN = "__triage_passed__", "__triage_caught__", "__triage_again__", "__triage_main__"
_COMPILED = ("jit", "vectorize", "stencil", "kernel", "compile")
"""Decorators that read a function's bytecode: what they make of ours is not to be tried."""
_READERS = frozenset(("numba", "pony", "taichi", "triton"))
_QUIET = frozenset(("StopIteration", "StopAsyncIteration", "GeneratorExit", "KeyboardInterrupt", "SystemExit"))
_ONLY_AST = 0x400  # ast.PyCF_ONLY_AST
_taken = [0]
_script = [""]


def install() -> str:
    """How it looks, in one word."""
    import builtins

    for name, mark in ((PASSED, passed), (CAUGHT, caught), (AGAIN, again)):
        setattr(builtins, name, mark)
    sys.path_hooks.insert(0, _finder)
    for path in list(sys.path_importer_cache):
        if _is_own(path):
            del sys.path_importer_cache[path]
    script = _of_command()
    if script.endswith(".py") and own(os.path.abspath(script)) and os.path.isfile(script):
        _script[0] = script
    return "marks"


def _of_command() -> str:
    """The file that this interpreter was started with; "" for -c, -m and none. sys.argv comes later."""
    with open("/proc/self/cmdline", "rb") as file:
        words = [os.fsdecode(word) for word in file.read().split(b"\0")[1:-1]]
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word == "-":
            return word
        if word == "--check-hash-based-pycs":
            words[:1] = []
            continue
        for at, letter in enumerate(word[1:], 1):
            if letter in "cm":
                return ""
            if letter in "WX":
                if at == len(word) - 1:
                    words[:1] = []
                break
    return ""


def _is_own(folder: str) -> bool:
    return own(os.path.join(os.path.abspath(folder), "a.py"))


# --- finding and compiling ---------------------------------------------------------------------------


class Marking(SourceFileLoader):
    """Loads a module of the app's own."""

    def get_code(self, fullname: str) -> CodeType | None:
        """With marks, where that can be done; else what it always is."""
        try:
            path = self.get_filename(fullname)
            data = self.get_data(path)
            if own(path) and len(data) <= FILE and _taken[0] + len(data) <= TOGETHER:
                made = marked(data, path, False)
                _taken[0] += len(data)
                return made
        except Exception as error:
            failed(error)
        return super().get_code(fullname)


def _finder(path: str) -> Any:
    """For sys.path_hooks: takes folders of the app's own, and the script."""
    if path and _script[0] and path in (_script[0], os.path.abspath(_script[0])):  # absolute from 3.9 on
        _script[0] = ""
        return Script(path)
    folder = path or os.getcwd()
    if not _is_own(folder) or not os.path.isdir(folder):
        raise ImportError("not the app's own", path=path)
    return FileFinder(
        path, (ExtensionFileLoader, EXTENSION_SUFFIXES), (Marking, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )  # fmt: skip


class Script:
    """Finds one module: the script, as `__main__`."""

    def __init__(self, path: str) -> None:
        try:
            with open(path, "rb") as file:
                data = file.read(FILE + 1)
            if len(data) > FILE:
                raise ValueError("too large")
            self.code = marked(data, path, True)
        except Exception as error:  # then it is run as ever, and says itself what is wrong
            failed(error)
            raise ImportError("not by the agent", path=path) from None
        self.path = path
        import builtins

        setattr(builtins, MAIN, self.begun)

    def find_spec(self, fullname: str, target: Any = None) -> Any:
        if fullname != "__main__":
            return None
        from importlib.util import spec_from_file_location

        return spec_from_file_location(fullname, self.path, loader=_Main(fullname, self.path, self.code))

    def begun(self) -> None:
        """The script's first act: all is to be as it is without the agent."""
        try:
            names = sys._getframe(1).f_globals
            names["__spec__"] = names["__package__"] = names["__cached__"] = None
            names["__loader__"] = SourceFileLoader("__main__", self.path)
            sys.path_importer_cache.pop(self.path, None)
            if sys.path and sys.path[0] == self.path:
                del sys.path[0]
                if not getattr(sys.flags, "safe_path", False) and not sys.flags.isolated:
                    real = self.path
                    if os.path.islink(real):
                        real = os.path.join(os.path.dirname(real), os.readlink(real))
                    sys.path.insert(0, os.path.dirname(os.path.abspath(real)))
        except Exception as error:
            failed(error)


class _Main(SourceFileLoader):
    def __init__(self, fullname: str, path: str, code: CodeType) -> None:
        super().__init__(fullname, path)
        self.code = code

    def get_code(self, fullname: str) -> CodeType | None:
        return self.code


def marked(data: bytes, path: str, main: bool) -> CodeType:
    """Its code, with marks. Raises SyntaxError, and whatever else."""
    import ast

    tree = compile(data, path, "exec", _ONLY_AST, True)
    assert isinstance(tree, ast.Module)
    if not _read_by_others(tree):
        _Marks(ast).body(tree.body)
    if main:
        at = 0
        while at < len(tree.body) and (
            (at == 0 and _is_text(ast, tree.body[0]))
            or (isinstance(tree.body[at], ast.ImportFrom) and getattr(tree.body[at], "module", "") == "__future__")
        ):
            at += 1
        if at < len(tree.body):
            tree.body.insert(at, _call(ast, MAIN, tree.body[at]))
    ast.fix_missing_locations(tree)
    known[path] = True  # as its frames name it; a script's path may be relative
    made: CodeType = compile(tree, path, "exec", 0, True)
    return made


def _read_by_others(tree: ast.Module) -> bool:
    for node in tree.body:
        names = [alias.name for alias in getattr(node, "names", ())] + [getattr(node, "module", "") or ""]
        if any(str(name).partition(".")[0] in _READERS for name in names):
            return True
    return False


def _is_text(ast: Any, node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _call(ast: Any, name: str, like: Any) -> Any:
    made = ast.Expr(ast.Call(ast.Name(name, ast.Load()), [], []))
    line, column = like.lineno, like.col_offset
    for node in ast.walk(made):
        node.lineno = node.end_lineno = line
        node.col_offset = node.end_col_offset = column
    return made


class _Marks:
    """Goes through statements only: expressions hold no handlers."""

    def __init__(self, ast: Any) -> None:
        self.ast = ast

    def body(self, statements: list[Any]) -> None:
        ast = self.ast
        at = 0
        while at < len(statements):
            node = statements[at]
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                if not self._compiled(node):
                    self.body(node.body)
                    self._wrap(node)
            elif isinstance(node, ast.Raise):
                if node.exc is None:
                    statements.insert(at, _call(ast, AGAIN, node))
                    at += 1
            else:
                for name in ("body", "orelse", "finalbody"):
                    inner = getattr(node, name, None)
                    if isinstance(inner, list):
                        self.body(inner)
                for handler in getattr(node, "handlers", ()):
                    self.body(handler.body)
                    if getattr(handler.type, "id", "") not in _QUIET:
                        handler.body.insert(0, _call(ast, CAUGHT, handler.body[0]))
                for case in getattr(node, "cases", ()):
                    self.body(case.body)
            at += 1

    def _compiled(self, node: Any) -> bool:
        ast = self.ast
        names = [
            part.id if isinstance(part, ast.Name) else part.attr
            for decorator in node.decorator_list
            for part in ast.walk(decorator)
            if isinstance(part, (ast.Name, ast.Attribute))
        ]
        return any(word in name.lower() for name in names for word in _COMPILED)

    def _wrap(self, node: Any) -> None:
        ast = self.ast
        first = 1 if _is_text(ast, node.body[0]) else 0
        rest = node.body[first:]
        if not rest or (len(rest) == 1 and isinstance(rest[0], (ast.Pass, ast.Expr)) and self._plain(rest[0])):
            return
        again = ast.copy_location(ast.Raise(None, None), rest[0])
        handler = ast.copy_location(ast.ExceptHandler(None, None, [_call(ast, PASSED, rest[0]), again]), rest[0])
        node.body[first:] = [ast.copy_location(ast.Try(rest, [handler], [], []), rest[0])]

    def _plain(self, node: Any) -> bool:
        return isinstance(node, self.ast.Pass) or isinstance(node.value, self.ast.Constant)


# --- what the marks call -----------------------------------------------------------------------------


_agains = [0]
"""How many exceptions were raised again by a handler and not met since."""


def _walk(tb: Any, *, _known: Any = known.get) -> Any:
    """The innermost frame of the app's own, and whether a function that this one called has reported it."""
    at, told = tb, False
    tb = tb.tb_next
    while tb is not None:
        code = tb.tb_frame.f_code
        if _known(code.co_filename):
            at = tb
            told = told or PASSED in code.co_names
        tb = tb.tb_next
    return at, told


def passed(*, _known: Any = known.get, _site: Any = SITES.get, _id: Any = id) -> None:
    """An exception leaves a function of the app's own."""
    exc: Any = sys.exc_info()[1]
    try:
        at = exc.__traceback__
        inner = at.tb_next
        if inner is not None:
            code = inner.tb_frame.f_code
            if not _agains[0] and _known(code.co_filename) and PASSED in code.co_names:
                return
            at, told = _walk(at)
            if told and not _agains[0]:
                return
        else:
            told = False
        place = _site((_id(at.tb_frame.f_code), at.tb_lasti, exc.__class__))
        if place is not None and place.again == _id(exc):
            place.again = 0  # it was caught, and raised again: it is known
            _agains[0] -= 1
        elif not told:
            if place is not None and place.fresh and not STATE.idle:
                place.raised += 1
            else:
                note(exc, at)
    except Exception as error:
        failed(error)


def caught(*, _site: Any = SITES.get, _id: Any = id) -> None:
    """A handler of the app's own begins."""
    exc: Any = sys.exc_info()[1]
    try:
        at = exc.__traceback__
        if at.tb_next is not None:
            at, told = _walk(at)
        else:
            told = False
        place = _site((_id(at.tb_frame.f_code), at.tb_lasti, exc.__class__))
        if place is not None and place.again == _id(exc):
            place.again = 0
            _agains[0] -= 1
            place.caught += 1
        elif told:
            if place is not None:
                place.caught += 1
        elif place is not None and place.fresh and not STATE.idle:
            place.raised += 1
            place.caught += 1
        else:
            note(exc, at, True)
    except Exception as error:
        failed(error)


def again() -> None:
    """A handler raises again what it caught."""
    exc = sys.exc_info()[1]
    if exc is None or exc.__class__ in IGNORED:
        return
    try:
        at = origin(exc.__traceback__)
        place = site(exc, at) if at is not None else None
        if place is not None and place.caught and not place.again:
            place.caught -= 1
            place.again = id(exc)
            _agains[0] += 1
    except Exception as error:
        failed(error)
