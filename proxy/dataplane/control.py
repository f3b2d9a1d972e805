"""Control's messages, in and out: the worker's side of the link."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final

from proxy import __version__
from proxy.dataplane.account import settle
from proxy.dataplane.guard import rss
from proxy.dataplane.log import log
from proxy.dataplane.tally import Tally
from proxy.dataplane.worker import Worker, monotonic
from proxy.link import messages
from proxy.link.board import COLUMNS, Board
from proxy.link.channel import Channel
from proxy.link.messages import PROTOCOL

TELL_EVERY: Final = 0.5
ROWS: Final = 100
"""Counts told at once; of a thousand instances the others follow, one part every ROWS_EVERY: neither loop stands still
for them, and what they cost does not grow with the number of instances."""
ROWS_EVERY: Final = 0.1
TELL_RECORDS: Final = 0.05
"""A person who saw a fault asks at once."""
TELL_SPANS: Final = 0.5
MOST_WAITING: Final = 4 << 20
"""Bytes that may wait for a slow or dead control; beyond, what a control can do without is dropped and counted."""
_NEEDED: Final = messages.Ready | messages.Ack | messages.Lost | messages.Drained


class ControlLink:
    """Reads `Start` first; makes the worker; then passes each message to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, end: Callable[[], None]) -> None:
        self._loop = loop
        self._end = end
        self._channel = Channel(loop, sock, self._received, end)
        self.worker: Worker | None = None
        self._board_fds: list[int] = []
        self._untold: list[Tally] = []
        self._lag_told = self._lag_peak = 0
        self._oldest: dict[str, dict[str, float]] = {}
        self._heard: dict[str, dict[str, float]] = {}

    def send(self, message: messages.ToControl) -> None:
        if self._channel.waiting > MOST_WAITING and not isinstance(message, _NEEDED):
            if self.worker is not None:
                if isinstance(message, messages.Stories):
                    self.worker.stories.dropped += len(message.items)
                elif isinstance(message, messages.Sampled) and self.worker.spans is not None:
                    self.worker.spans.dropped += len(message.items)
                else:
                    self.worker.kept.dropped += 1
            return
        self._channel.send(messages.encode(message))

    def _received(self, payload: bytes, fds: list[int]) -> None:
        try:
            message = messages.decode_to_worker(payload)
        except Exception as error:  # a control of another version: say so, it will replace us
            log("message-not-understood", why=str(error), level="error")
            for fd in fds:
                os.close(fd)
            return
        worker = self.worker
        if isinstance(message, messages.Start):
            self._start(message, fds)
        elif worker is None:
            log("message-before-start", message=type(message).__name__, level="error")
        elif isinstance(message, messages.Table):
            worker.apply(message)
        elif isinstance(message, messages.Fate):
            worker.fate(message)
        elif isinstance(message, messages.Cut):
            worker.cut(message.row, message.fault)
        elif isinstance(message, messages.Find):
            settle(worker)
            found = worker.flight.find(message.id, message.limit, message.app, message.path, message.instance)
            self.send(messages.Found(message.question, found))
        elif isinstance(message, messages.Listen):
            self._loop.create_task(worker.listen(message.listeners, fds))
        elif isinstance(message, messages.Drain):
            self._loop.create_task(worker.drain(message.limit, message.idle))
        elif isinstance(message, messages.Reopen):
            if worker.log is not None:
                worker.log.reopen()

    def _start(self, start: messages.Start, fds: list[int]) -> None:
        """A new control says the same again: the worker stays as it is and tells everything."""
        if start.protocol != PROTOCOL:  # it may mean anything: we stay as we are, and control has one of us replaced
            log("other-protocol", ours=PROTOCOL, theirs=start.protocol, level="error")
            for fd in fds:
                os.close(fd)
            self.send(messages.Ready(PROTOCOL, start.worker, start.epoch, os.getpid(), __version__))
            return
        if self.worker is None:
            board = Board(fds[0], start.worker + 1)
            os.close(fds[0])
            self.worker = Worker(self._loop, start.worker, start.epoch, board, fds[1 : 1 + COLUMNS], self.send)
            self.worker.on_drained = self._drained
            self.worker.kept.tell_soon = lambda: self._loop.call_later(TELL_RECORDS, self._tell_records)
            self.worker.tell_spans_soon = lambda: self._loop.call_later(TELL_SPANS, self._tell_spans)
            self.worker.listening.give(start.listeners, fds[1 + COLUMNS :])
            self._loop.call_later(TELL_EVERY, self._tell)
        else:
            for fd in fds:
                os.close(fd)
            self._tell_stats(everything=True)
        self.send(messages.Ready(PROTOCOL, start.worker, self.worker.epoch, os.getpid(), __version__))

    def _tell(self) -> None:
        self._loop.call_later(TELL_EVERY, self._tell)
        self._tell_stats()

    def _tell_stats(self, everything: bool = False, at_once: bool = False) -> None:
        worker = self.worker
        assert worker is not None
        settle(worker)
        if worker.log is not None:
            worker.log.flush()
        if self._channel.waiting > MOST_WAITING:
            worker.kept.dropped += len(worker.kept.take())
            return
        self._tell_records()
        lag_max, worker.lag_max_us = worker.lag_max_us, 0
        self._lag_told, self._lag_peak = lag_max, max(self._lag_peak, lag_max)
        self._oldest = worker.oldest(monotonic())
        self._heard = worker.heard()
        if everything or at_once or not self._untold:
            self._untold += worker.changed(everything)  # what is in it twice is told twice: it is cumulative
            if len(self._untold) > ROWS and not at_once:
                self._loop.call_later(ROWS_EVERY, self._tell_more_rows)
            self._send_stats(worker, self._rows(len(self._untold) if at_once else ROWS))
        else:
            self._send_stats(worker, [])

    def _rows(self, most: int) -> list[messages.Row]:
        told, self._untold = self._untold[:most], self._untold[most:]
        return [tally.row() for tally in told]

    def _tell_more_rows(self) -> None:
        worker = self.worker
        assert worker is not None
        if self._untold and self._channel.waiting <= MOST_WAITING:
            self._send_stats(worker, self._rows(ROWS))
        if self._untold:
            self._loop.call_later(ROWS_EVERY, self._tell_more_rows)

    def _send_stats(self, worker: Worker, rows: list[messages.Row]) -> None:
        connections = sum(len(each.open) for app in worker.apps.values() for each in app.instances.values())
        log_now = worker.log
        self.send(
            messages.Stats(
                worker.column,
                worker.epoch,
                monotonic(),
                worker.lag_us,
                max(self._lag_told, worker.lag_max_us),
                len(worker.clients),
                worker.accepted,
                connections,
                worker.tunnels,
                worker.version,
                worker.kept.dropped,
                log_now.lost if log_now is not None else 0,
                log_now.error if log_now is not None else "",
                worker.guard.shedding,
                worker.draining,
                rss(),
                rows,
                self._lag_peak,
                self._oldest,
                self._heard,
                worker.spans.dropped if worker.spans is not None else 0,
                worker.self_checks,
                worker.stories.dropped,
            )
        )

    def _tell_records(self) -> None:
        worker = self.worker
        assert worker is not None
        worker.kept.told = False
        records = worker.kept.take()
        for start in range(0, len(records), 50):
            self.send(messages.Records(records[start : start + 50]))
        for story in worker.stories.take():
            self.send(messages.Stories([story]))

    def _tell_spans(self) -> None:
        spans = self.worker.spans if self.worker is not None else None
        if spans is None:
            return
        spans.told = False
        records = spans.take()
        for start in range(0, len(records), 50):
            self.send(messages.Sampled(records[start : start + 50]))

    def _drained(self) -> None:
        worker = self.worker
        assert worker is not None
        worker.on_drained = None
        self._tell_spans()
        self._tell_stats(at_once=True)
        if worker.log is not None:
            worker.log.close()
        self.send(messages.Drained(worker.column))
        self._loop.call_later(0.05, self._end)
