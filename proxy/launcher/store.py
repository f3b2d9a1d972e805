"""Descriptors held by name: the ledger, output pipes, listening sockets, and what control asked to hold."""

from __future__ import annotations

import errno
import os
import socket

from proxy.launcher.child import Refused
from proxy.launcher.sockets import CannotListen, Listening
from proxy.link.spawn import Address, Admin, Listener

LEDGER = "ledger"


class Store:
    """Always true: what is in `held` is open and ours; a name is in `held` or a listener's, never both."""

    def __init__(self, slots: int, held: dict[str, int] | None = None) -> None:
        """`held`: what a launcher of older code held."""
        self.slots = slots
        """Sockets of each address: as many as there ever were workers."""
        self.steered = slots
        """New connections go to so many of them."""
        self.held = held if held is not None else {LEDGER: os.memfd_create("triage-ledger", os.MFD_CLOEXEC)}
        self.listening: list[Listening] = []

    def descriptor(self, name: str) -> int:
        """Ours, to copy or to send. Raises Refused."""
        if name in self.held:
            return self.held[name]
        for one in self.listening:
            if name in (sockets := one.held()):
                return sockets[name]
        raise Refused("name", errno.ENOENT, f"nothing is held by the name {name}")

    def names(self) -> list[str]:
        return [*self.held, *(name for one in self.listening for name in one.held())]

    def put(self, name: str, fd: int) -> None:
        """`fd` becomes ours; what had the name is closed."""
        self.release(name)
        self.held[name] = fd

    def release(self, name: str) -> None:
        fd = self.held.pop(name, None)
        if fd is not None:
            os.close(fd)

    def not_own(self, name: str) -> str:
        """A name that control may hold and drop. Raises Refused."""
        listeners = any(name in one.held() for one in self.listening)
        if not name or name == LEDGER or name.endswith(".pidfd") or listeners:
            raise Refused("name", errno.EPERM, f"{name!r} is the launcher's own")
        return name

    def shut(self, names: list[str]) -> None:
        """Shut held sockets down, for all who have a copy: a caller is refused from now on."""
        for name in names:
            if name in self.held:
                try:
                    with socket.socket(fileno=os.dup(self.held[name])) as sock:
                        sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    # --- listening

    def listen_all(self, addresses: list[Address], admin: Admin) -> None:
        """Raises CannotListen; then nothing is left open."""
        planned = [Listening(address) for address in addresses]
        if admin["listen"]:
            planned.append(Listening({**admin["listen"], "name": "admin"}, single=True))
        if admin["socket"]:
            path = admin["socket"]
            planned.append(Listening(Address(name="admin-socket", kind="unix", path=path, mode=0o660, group="triage")))
        try:
            for one in planned:
                self.listening.append(one)
                one.open(self.slots, planned)
        except CannotListen:
            self.close()
            raise

    def listen(self, address: Address) -> Listener:
        if any(one.name == address["name"] for one in self.listening) or address["name"] in self.held:
            raise Refused("listen", errno.EEXIST, f"the name {address['name']} is taken")
        one = Listening(address)
        try:
            one.open(self.slots, self.listening)
        except CannotListen as error:
            one.close()
            raise Refused("listen", error.errno, str(error)) from None
        if self.steered < self.slots:
            one.steer(self.steered)
        self.listening.append(one)
        return one.describe(self.slots)

    def unlisten(self, name: str) -> None:
        one = next((one for one in self.listening if one.name == name), None)
        if one is None:
            raise Refused("unlisten", errno.ENOENT, f"no listener has the name {name}")
        self.listening.remove(one)
        one.close()

    def resize(self, slots: int) -> list[Listener]:
        """At least so many worker slots: all addresses follow, or none. New ones get no connections before `steer`."""
        if slots <= self.slots:
            return self.listeners()
        self.steer(self.steered)
        try:
            for one in self.listening:
                one.resize(slots)
        except CannotListen as error:
            for one in self.listening:
                one.resize(self.slots)
            raise Refused("slots", error.errno, str(error)) from None
        self.slots = slots
        return self.listeners()

    def steer(self, slots: int) -> None:
        """New connections go to the first `slots` only; the others keep what waits in them."""
        self.steered = min(slots, self.slots)
        for one in self.listening:
            one.steer(slots)

    def listeners(self) -> list[Listener]:
        return [one.describe(self.slots) for one in self.listening]

    def close(self) -> None:
        for one in self.listening:
            one.close()
        self.listening.clear()
