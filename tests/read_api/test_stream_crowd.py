"""Many clients of many microgrids: each is told everything once and in order, and ends on the newest card."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from tests.read_api.seed import T0, put, run

from event_store.database import Pool
from microgrid import events, subjects
from microgrid.events import Event
from read_api import stream_client
from read_api.app import ReadApi

MICROGRIDS = 10
CLIENTS = 100
ROUNDS = 40

_CARD = b"event: card\ndata: "
_ID = re.compile(rb"^id: (\d+)-(\d+)$", re.MULTILINE)
_EVENT_ID = re.compile(rb'^data: \{"event_id":"([^"]+)"', re.MULTILINE)

_SITES = f"""
INSERT INTO depot SELECT 'd-' || i, 'Depot', 'UTC' FROM generate_series(1, {MICROGRIDS}) i;
INSERT INTO microgrid (microgrid_id, depot_id, version, status)
    SELECT ('01900000-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid, 'd-' || i, 1, 'ACTIVE'
    FROM generate_series(1, {MICROGRIDS}) i;
"""


def microgrid(number: int) -> str:
    return f"01900000-0000-7000-8000-{number:012}"


def report(number: int, value: int) -> Event:
    """That the capability of a microgrid was on or off, the later the greater the value."""
    observed_at = T0 + timedelta(milliseconds=value)
    payload = {"capability": "DER", "raw_value": value % 2 == 0, "operational_status": "ON" if value % 2 == 0 else "OFF"}
    return Event(
        events.report_event_id(events.CAPABILITY_STATUS_REPORTED, f"dev-{number}", f"p-{value}", "DER", "", observed_at, value),
        events.CAPABILITY_STATUS_REPORTED,
        f"d-{number}",
        microgrid(number),
        subjects.capability_subject(microgrid(number), None, "DER"),
        False,
        observed_at,
        observed_at,
        f"p-{value}",
        payload,
        {"received_at": events.utc_text(T0)},
    )


class Listener:
    """One client: the events it was told, by id, and its last card."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.told: list[str] = []
        self.last_id: str | None = None
        self.card: dict[str, Any] | None = None
        self.connections = 0
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    @contextlib.asynccontextmanager
    async def listening(self, address: str) -> AsyncGenerator[None]:
        """Listen, and resume whenever the connection ends, while the context lasts."""
        self._task = asyncio.create_task(self._listen(address))
        try:
            yield
        finally:
            self._task.cancel()
            await asyncio.wait({self._task})
            if self._writer is not None:
                self._writer.close()

    def cut_off(self) -> None:
        """End the connection without a farewell."""
        if self._writer is not None:
            self._writer.transport.abort()

    @property
    def shown(self) -> str | None:
        """What the last card says of the time of the last report."""
        return self.card["capabilities"][0]["observed_at"] if self.card and self.card["capabilities"] else None

    async def _listen(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        while True:
            reader, self._writer = await asyncio.open_connection(host, int(port))
            resume = f"Last-Event-ID: {self.last_id}\r\n" if self.last_id else ""
            # A refusal for want of time ends the connection, too, and the next is tried.
            headers = f"Host: x\r\nConnection: close\r\n{resume}"
            self._writer.write(f"GET /api/microgrid/{microgrid(self.number)}/stream HTTP/1.1\r\n{headers}\r\n".encode())
            self.connections += 1
            rest = b""
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(1 << 16):
                    complete, _, rest = (rest + data).rpartition(b"\n\n")
                    self._take(complete)

    def _take(self, messages: bytes) -> None:
        self.told += [found.decode() for found in _EVENT_ID.findall(messages)]
        ids = _ID.findall(messages)
        if ids:
            assert all(earlier < later for earlier, later in pairwise((int(a), int(b)) for a, b in ids))
            self.last_id = b"-".join(ids[-1]).decode()
        at = messages.rfind(_CARD)
        if at >= 0:
            self.card = json.loads(messages[at + len(_CARD) :].partition(b"\n")[0])


async def _becomes(condition: Callable[[], bool], within_s: float = 180) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - looked at now and then: it is about many at once
            await asyncio.sleep(0.05)


async def test_a_crowd_is_told_everything_once_and_in_order_and_ends_on_the_newest_card(address: str, pool: Pool) -> None:
    await run(pool, _SITES)
    crowd = [Listener(number % MICROGRIDS + 1) for number in range(CLIENTS)]
    sent: dict[int, list[str]] = {number: [] for number in range(1, MICROGRIDS + 1)}
    chance = random.Random(11)
    async with contextlib.AsyncExitStack() as connected:
        for listener in crowd:
            await connected.enter_async_context(listener.listening(address))
        await _becomes(lambda: all(listener.card for listener in crowd))
        for value in range(ROUNDS):
            reports = [report(number, value) for number in chance.sample(range(1, MICROGRIDS + 1), chance.randint(5, MICROGRIDS))]
            await put(pool, *reports)
            for one in reports:
                sent[int(one.depot_id[2:])].append(one.event_id)
            if value % 10 == 5:
                for listener in chance.sample(crowd, 5):
                    listener.cut_off()
        newest = [report(number, ROUNDS) for number in sent]
        await put(pool, *newest)
        for one in newest:
            sent[int(one.depot_id[2:])].append(one.event_id)
        await _becomes(lambda: all(len(listener.told) >= len(sent[listener.number]) for listener in crowd))
        await _becomes(lambda: all(listener.shown == "2026-11-20T12:00:00.040000Z" for listener in crowd))
    assert all(listener.told == sent[listener.number] for listener in crowd)
    assert sum(listener.connections for listener in crowd) > CLIENTS


async def test_events_that_come_all_at_once_let_go_of_nobody_who_reads(
    address: str, read_api: ReadApi, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_client, "QUEUE_LIMIT", 300)
    await run(pool, _SITES)
    crowd = [Listener(1) for _ in range(5)]
    async with contextlib.AsyncExitStack() as connected:
        for listener in crowd:
            await connected.enter_async_context(listener.listening(address))
        await _becomes(lambda: all(listener.card for listener in crowd))
        reports = [report(1, value) for value in range(3_000)]
        await put(pool, *reports)
        await _becomes(lambda: all(len(listener.told) >= len(reports) for listener in crowd))
        assert [listener.connections for listener in crowd] == [1] * len(crowd)
    assert all(listener.told == [one.event_id for one in reports] for listener in crowd)


async def test_a_client_that_was_let_go_for_not_reading_resumes_without_a_gap(
    address: str, read_api: ReadApi, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_client, "QUEUE_LIMIT", 60)
    await run(pool, _SITES)
    host, _, port = address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(f"GET /api/microgrid/{microgrid(1)}/stream HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readuntil(b"id: ")
    began = (await reader.readline()).decode().strip()
    sent: list[str] = []
    await _becomes(lambda: read_api.streams.clients == 1)
    async with asyncio.timeout(180):
        while read_api.streams.clients:
            reports = [report(1, len(sent) + number) for number in range(8)]
            await put(pool, *(msgspec.structs.replace(one, payload={**one.payload, "filler": "x" * 60_000}) for one in reports))
            sent += [one.event_id for one in reports]
    writer.close()
    resumed = Listener(1)
    resumed.last_id = began
    async with resumed.listening(address):
        await _becomes(lambda: len(resumed.told) >= len(sent))
    assert resumed.told == sent


async def test_a_quiet_stream_gives_a_sign_of_life(address: str, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_client, "PING_S", 0.05)
    await run(pool, _SITES)
    host, _, port = address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /api/microgrid/{microgrid(1)}/stream HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    async with asyncio.timeout(60):
        await reader.readuntil(b": from here on")
        await reader.readuntil(b": ping\n\n")
    writer.close()
