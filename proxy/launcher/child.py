"""Fork and exec, told step by step: what fails between the two is reported by its step and errno.

Always true:
  - between fork and exec no signal handler of the launcher runs, and only system calls are made;
  - PDEATHSIG is set after any change of user (a change clears it) and the parent is checked after that;
  - every descriptor but 0 to 2 and those given is close-on-exec.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import pwd
import resource
import signal
import stat
import termios
from typing import Any, Final, NoReturn

from proxy.launcher.processes import INSTANCE, LAUNCHER
from proxy.link.spawn import Message, SpawnRequest

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_PTRACER: Final = 0x59616D61
PIPES_TOTAL: Final = 16 << 20
PIPE_LEAST: Final = 64 << 10
PIPE_MOST: Final = 1 << 20

prctl = ctypes.CDLL(None, use_errno=True).prctl
prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


class Refused(Exception):
    """A request that can't be done, in words for the one who asked."""

    def __init__(self, step: str, number: int, text: str) -> None:
        super().__init__(text)
        self.step, self.errno, self.text = step, number, text


class Child:
    """One child, from fork until it is reaped."""

    def __init__(self, request: SpawnRequest) -> None:
        self.name = request["name"]
        self.kind = request.get("kind", "instance")
        self.argv = [str(word) for word in request["argv"]]
        self.cwd = request.get("cwd") or "/"
        self.env: dict[str, str] = dict(request.get("env") or {})
        given = request.get("cgroup") or []
        self.cgroups = [given] if isinstance(given, str) else [str(path) for path in given]
        self.nice = int(request.get("nice") or 0)
        self.affinity = [int(core) for core in request.get("affinity") or ()]
        self.ptracer = bool(request.get("ptracer"))
        self.terminal = bool(request.get("terminal"))
        self.nofile = request.get("nofile") or ("original" if self.kind == "instance" else "raised")
        self.shut = list(request.get("shut") or ())
        self.note: Any = request.get("note")
        self.user, self.uid, self.gid, self.groups = _user(request)
        self.pid = 0
        self.pidfd = -1
        self.start = 0
        self.began = 0.0
        self.errors = -1
        """read end of the pipe that tells of a failed exec; -1 once it is known"""
        self.reply: int | None = None
        """number of the request that waits for the outcome"""
        self.pipes: dict[str, int] = {}
        """held name -> read end"""
        self.refused: Message | None = None
        """it never became the program; the answer for the one who asked"""
        self.sent: list[tuple[int, float]] = []

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name} pid {self.pid}>"

    def told(self) -> dict[str, Any]:
        """What a launcher of newer code needs of a child that runs: every plain value but what its start alone took."""
        return {key: value for key, value in vars(self).items() if key not in _OF_ITS_START}

    @classmethod
    def resumed(cls, row: dict[str, Any]) -> Child:
        """From `told`; what that lacks is as in a new one."""
        child = cls(SpawnRequest(name=row["name"], kind=row["kind"], argv=[]))
        vars(child).update({key: value for key, value in row.items() if key in vars(child)})
        return child


_OF_ITS_START: Final = ("argv", "cwd", "env", "uid", "gid", "groups", "errors", "pidfd", "reply", "refused")


def _user(request: SpawnRequest) -> tuple[str, int | None, int | None, list[int] | None]:
    user, uid = request.get("user"), request.get("uid")
    gid, groups = request.get("gid"), request.get("groups")
    if user:
        try:
            entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
            uid, gid = entry.pw_uid if uid is None else uid, entry.pw_gid if gid is None else gid
            if groups is None:
                groups = os.getgrouplist(entry.pw_name, gid)
        except KeyError:
            if not user.isdigit():
                raise Refused("user", errno.ENOENT, f"user {user}: not known on this machine") from None
            uid = int(user) if uid is None else uid
    if os.geteuid() != 0:
        if uid is not None and uid != os.geteuid():
            text = f"user {user or uid}: only root may change user, and this is uid {os.geteuid()}"
            raise Refused("user", errno.EPERM, text)
        return user or "", None, None, None
    if uid is not None and groups is None:
        groups = [gid if gid is not None else uid]
    if uid is not None and gid is None:
        gid = uid
    return user or "", uid, gid, groups


def pipe_size(count: int) -> int:
    """Bytes for each of `count` output pipes; a power of two, as the kernel rounds up to one."""
    share = max(PIPE_LEAST, min(PIPE_MOST, PIPES_TOTAL // max(1, count)))
    return int(1 << (share.bit_length() - 1))


def resize_pipe(fd: int, size: int) -> None:
    """A refusal (the user's quota, or more in it than would fit) leaves the pipe as it was."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)
    except OSError:
        pass


def fork(child: Child, targets: dict[int, int], marker: str, nofile: tuple[int, int]) -> None:
    """Start it; `targets` maps descriptor numbers in the child to ours. Raises OSError."""
    env = {key: value for key, value in child.env.items() if key not in (INSTANCE, LAUNCHER)}
    env[LAUNCHER] = marker
    if child.kind == "instance":
        env[INSTANCE] = child.name
    launcher = os.getpid()
    errors, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                _become(child, env, targets, write, launcher, nofile)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except OSError:
        os.close(errors)
        raise
    finally:
        os.close(write)
    try:
        child.pidfd = os.pidfd_open(pid)
    except OSError:
        os.close(errors)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    child.pid, child.errors = pid, errors


def _become(
    child: Child,
    env: dict[str, str],
    targets: dict[int, int],
    errors: int,
    launcher: int,
    nofile: tuple[int, int],
) -> NoReturn:
    step = "session"
    try:
        signal.set_wakeup_fd(-1)
        os.setsid()
        step = "signals"
        for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        step = "descriptors"
        above = max(targets) + 1
        errors = fcntl.fcntl(errors, fcntl.F_DUPFD_CLOEXEC, above)
        moved = {target: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for target, fd in targets.items()}
        for target, fd in moved.items():
            os.dup2(fd, target, inheritable=True)
        if child.terminal:
            step = "terminal"
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        step = "cgroup"
        for path in child.cgroups:
            procs = os.open(os.path.join(path, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC)
            os.write(procs, b"0")
            os.close(procs)
        step = "affinity"
        if child.affinity:
            os.sched_setaffinity(0, child.affinity)
        step = "nice"
        if child.nice:
            os.nice(child.nice)
        step = "limits"
        resource.setrlimit(resource.RLIMIT_NOFILE, nofile)
        step = "user"
        if child.groups is not None:
            os.setgroups(child.groups)
        if child.gid is not None:
            os.setresgid(child.gid, child.gid, child.gid)
        if child.uid is not None:
            os.setresuid(child.uid, child.uid, child.uid)
        step = "cwd"
        os.chdir(child.cwd)
        step = "parent"
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != launcher:
            os._exit(127)
        if child.ptracer:
            prctl(PR_SET_PTRACER, launcher, 0, 0, 0)  # EINVAL without Yama: then it is not needed
        if "LISTEN_FDS" in env:
            env["LISTEN_PID"] = str(os.getpid())
        step = "exec"
        _exec(child.argv, env)
    except BaseException as error:
        number = error.errno if isinstance(error, OSError) and error.errno else 0
        os.write(errors, f"{step} {number} {error}".encode("utf-8", "replace")[:2000])
    finally:
        os._exit(127)


def _exec(argv: list[str], env: dict[str, str]) -> None:
    """Like execvp: the first that can be run; "not allowed" is told rather than "not there"."""
    told: OSError | None = None
    for path in _candidates(argv[0], env):
        try:
            os.execve(path, argv, env)
        except (FileNotFoundError, NotADirectoryError) as error:
            told = told or error
        except PermissionError as error:
            if told is None or not isinstance(told, PermissionError):
                told = error
    raise told or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _candidates(program: str, env: dict[str, str]) -> list[str]:
    if "/" in program:
        return [program]
    return [os.path.join(folder or ".", program) for folder in env.get("PATH", os.defpath).split(":")]


def explain(child: Child, step: str, number: int, text: str) -> Refused:
    """What a child reported before it could exec, for the one who wrote the command."""
    program = child.argv[0]
    why = os.strerror(number) if number else text
    if step == "exec":
        said = _explain_exec(child, program, number, why)
    elif step == "cwd":
        user = f" (as user {child.user})" if child.user and number == errno.EACCES else ""
        said = f"cwd {child.cwd}: {why}{user}"
    elif step == "user":
        said = f"could not become user {child.user or child.uid}: {why}"
    elif step == "cgroup":
        said = f"cgroup {', '.join(child.cgroups)}: {why}"
    else:
        said = f"{program}: {step}: {why}"
    return Refused(step, number, said)


def _explain_exec(child: Child, program: str, number: int, why: str) -> str:
    files = [os.path.join(child.cwd, path) for path in _candidates(program, child.env)]
    there = [path for path in files if os.path.isfile(path)]
    if number in (errno.ENOENT, errno.ENOTDIR):
        if there and (interpreter := _interpreter(there[0])):
            return f"{there[0]}: its first line names {interpreter}, which is not there"
        if "/" in program:
            return f"{program}: no such file" + ("" if program.startswith("/") else f" in {child.cwd}")
        return f"{program}: not found in PATH {child.env.get('PATH', os.defpath)}"
    if number == errno.EACCES and there:
        mode = stat.S_IMODE(os.stat(there[0]).st_mode)
        user = f" by user {child.user}" if child.user else ""
        return f"{there[0]}: may not be executed{user} (mode {mode:04o})"
    if number == errno.EACCES and os.path.isdir(files[0]):
        return f"{files[0]}: is a folder"
    if number == errno.ENOEXEC:
        return f"{(there or files)[0]}: neither a program for this machine nor a script with a #! line"
    return f"{program}: {why}"


def _interpreter(path: str) -> str:
    try:
        with open(path, "rb") as file:
            first = file.readline(256)
    except OSError:
        return ""
    words = first[2:].split() if first.startswith(b"#!") else []
    return words[0].decode(errors="replace") if words else ""
