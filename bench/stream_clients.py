"""500 stream clients on 50 microgrids while 1,000 packets a second come in over MQTT.

Each client is a bare connection that notes the position of every event and keeps the last card. When the last packet is out, the
clock runs until every client has the card that shows its microgrid's last report. One client is cut off for 30 s in the middle and
resumes with its last id. At the end each client must have had every event of its microgrid once and in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import asyncpg
import uvloop

from bench import backlog
from bench.figure import Figure
from bench.stack import service, stack
from bench.steady_load import confirmed, steady_load

CLIENTS = int(os.environ.get("BENCH_CLIENTS", "500"))
MICROGRIDS = 50
RATE = 1_000
CUT_OFF_S = 30.0
_BEFORE_S = 4.0
_AFTER_S = 8.0
_BOUND_S = 60.0
_RECONNECT_S = 0.5
_REPORTED = "CapabilityStatusReported"
_CARD = b"event: card\ndata: "
_POSITION = re.compile(rb"^id: (\d+)-(\d+)$", re.MULTILINE)
_OBSERVED = re.compile(rb'"operational_status":"\w+","freshness":"\w+","observed_at":"([^"]+)"')


@dataclass(slots=True)
class Client:
    """One connection after the other to one microgrid's stream; what it was told."""

    microgrid_id: str
    positions: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    observed_at: bytes = b""
    card_came: float = 0.0
    cards_came: list[float] = field(default_factory=list[float])
    received: int = 0
    ends: int = 0
    _writer: asyncio.StreamWriter | None = None

    async def listen(self, port: int) -> None:
        """Take what comes; whenever the connection ends, resume after the last id."""
        while True:
            await self._listen_once(port)
            self.ends += 1
            await asyncio.sleep(_RECONNECT_S)

    async def _listen_once(self, port: int) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        last = self.positions[-1] if self.positions else None
        resume = f"Last-Event-ID: {last[0]}-{last[1]}\r\n" if last else ""
        self._writer.write(f"GET /api/microgrid/{self.microgrid_id}/stream HTTP/1.1\r\nHost: bench\r\n{resume}\r\n".encode())
        rest = b""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                self.received += len(data)
                complete, _, rest = (rest + data).rpartition(b"\n\n")
                if complete:
                    self._take(complete)
        self._writer.close()

    def _take(self, messages: bytes) -> None:
        # The very first id is no event's: it says where the client began.
        self.positions += [(int(number), int(place)) for number, place in _POSITION.findall(messages)]
        at = messages.rfind(_CARD)
        if at >= 0:
            now = perf_counter()
            self.cards_came += [now] * messages.count(_CARD)
            found = _OBSERVED.search(messages, at)
            if found is not None and found[1] != self.observed_at:
                self.observed_at, self.card_came = found[1], now

    def cut_off(self) -> None:
        """End the connection as a network does, without a farewell."""
        if self._writer is not None:
            self._writer.transport.abort()

    def cards_a_second(self, begun: float, ended: float) -> float:
        """Cards that came between two moments: n of them are n - 1 intervals, from the first to the last."""
        came = [at for at in self.cards_came if begun <= at <= ended]
        return (len(came) - 1) / (came[-1] - came[0]) if len(came) > 1 and came[-1] > came[0] else 0.0

    def gapless(self, stored: list[tuple[int, int]]) -> bool:
        """Whether it had each event since it began once, in order."""
        begun, *had = self.positions
        in_order = all(earlier < later for earlier, later in pairwise(self.positions))
        return in_order and had == [position for position in stored if position > begun]


def measure() -> list[Figure]:
    """Connect, publish, cut off, wait, compare."""
    seconds = _BEFORE_S + CUT_OFF_S + _AFTER_S
    with stack(mqtt=True) as on:
        asyncio.run(backlog.seed_site(on.database_url))
        with service("ingest_worker", on), service("read_api", on) as api:
            idle_mb = api.resident_mb()
            before_s = api.cpu_s()
            found = uvloop.run(_run(on.database_url, on.mqtt_port, api.port, seconds))
            cpu_share = (api.cpu_s() - before_s) / found.took_s
            peak_mb = _peak_mb(api.pid)
    return _figures(found, peak_mb, idle_mb, cpu_share)


@dataclass(frozen=True, slots=True)
class _Found:
    late_s: float
    let_go: int
    gapless: int
    resumed_gapless: bool
    missed: int
    packets: int
    events: int
    cards_a_second: float
    received_mb: float
    took_s: float


async def _run(database_url: str, mqtt_port: int, port: int, seconds: float) -> _Found:
    connection: Any = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT depot_id, microgrid_id::text AS microgrid_id FROM microgrid")
    microgrid_of = {row["depot_id"]: row["microgrid_id"] for row in rows}
    clients = [Client(microgrid_of[f"bench-{number % MICROGRIDS}"]) for number in range(CLIENTS)]
    listening = [asyncio.create_task(client.listen(port)) for client in clients]
    await _until(lambda: all(client.cards_came for client in clients))
    begun = perf_counter()
    with steady_load(mqtt_port, RATE, seconds, devices=MICROGRIDS) as publisher:
        ending = asyncio.get_running_loop().run_in_executor(None, confirmed, publisher)
        await asyncio.sleep(_BEFORE_S)
        resuming = clients[0]
        had = len(resuming.positions)
        resuming.cut_off()
        listening[0].cancel()
        await asyncio.sleep(CUT_OFF_S)
        listening[0] = asyncio.create_task(resuming.listen(port))
        packets = await ending
    ended = perf_counter()
    newest = await _newest(connection, packets)
    await _until(lambda: all(client.observed_at == newest[client.microgrid_id] for client in clients))
    stored = await _stored(connection)
    await _until(lambda: all(client.positions[-1] == stored[client.microgrid_id][-1] for client in clients))
    for task in listening:
        task.cancel()
    await asyncio.wait(listening)
    await connection.close()
    return _Found(
        late_s=max(client.card_came for client in clients) - ended,
        let_go=sum(client.ends for client in clients),
        gapless=sum(client.gapless(stored[client.microgrid_id]) for client in clients),
        resumed_gapless=resuming.gapless(stored[resuming.microgrid_id]),
        missed=len(resuming.positions) - had,
        packets=packets,
        events=sum(len(client.positions) - 1 for client in clients),
        cards_a_second=max(client.cards_a_second(begun, ended) for client in clients),
        received_mb=sum(client.received for client in clients) / 1e6,
        took_s=perf_counter() - begun,
    )


async def _newest(connection: Any, packets: int) -> dict[str, bytes]:
    """The time of each microgrid's last report as a card shows it, once all packets are stored."""
    async with asyncio.timeout(_BOUND_S):
        while await connection.fetchval("SELECT count(*) FROM event_store WHERE event_type = $1", _REPORTED) < packets:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
    rows = await connection.fetch(
        "SELECT microgrid_id::text, max(observed_at) AS at FROM event_store WHERE event_type = $1 GROUP BY 1", _REPORTED
    )
    return {
        row[0]: row["at"].isoformat(timespec="microseconds" if row["at"].microsecond else "seconds")[:-6].encode() + b"Z"
        for row in rows
    }


async def _stored(connection: Any) -> dict[str, list[tuple[int, int]]]:
    rows = await connection.fetch(
        "SELECT microgrid_id::text, transaction_id::text::bigint, global_position FROM event_store "
        "WHERE event_type = $1 ORDER BY transaction_id, global_position",
        _REPORTED,
    )
    found: dict[str, list[tuple[int, int]]] = {}
    for microgrid_id, transaction_id, position in rows:
        found.setdefault(microgrid_id, []).append((transaction_id, position))
    return found


async def _until(condition: Any) -> None:
    async with asyncio.timeout(_BOUND_S):
        while not condition():  # noqa: ASYNC110 - looked at now and then, so that looking costs little
            await asyncio.sleep(0.01)


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def _figures(found: _Found, peak_mb: float, idle_mb: float, cpu_share: float) -> list[Figure]:
    load = f"{CLIENTS} stream clients, {MICROGRIDS} microgrids, {RATE:,} packets/s"
    values = {
        "late_s": found.late_s,
        "let_go": found.let_go,
        "packets": found.packets,
        "events_told": found.events,
        "cards_per_second": found.cards_a_second,
        "received_mb": found.received_mb,
        "read_api_cpu_share": cpu_share,
        "read_api_idle_mb": idle_mb,
        "read_api_peak_mb": peak_mb,
    }
    return [
        Figure(
            f"{load}: all have the newest card", f"{found.late_s:.2f} s after the last packet", "≤ 2 s", found.late_s <= 2, values
        ),
        Figure("… clients that had every event once, in order", f"{found.gapless}", f"{CLIENTS}", found.gapless == CLIENTS),
        Figure(
            f"… resumed after {CUT_OFF_S:.0f} s, without gap or repetition",
            f"{found.missed} events since" if found.resumed_gapless else "a gap",
            "no gap",
            found.resumed_gapless,
        ),
        Figure("… cards a second, most of any client", f"{found.cards_a_second:.2f}", "≤ 4", found.cards_a_second <= 4),
        Figure("… memory of the read API at its peak", f"{peak_mb:.0f} MB, {cpu_share:.0%} of a core", "≤ 300 MB", peak_mb <= 300),
    ]


if __name__ == "__main__":
    for figure in measure():
        print(f"{figure.name}: {figure.seen} ({figure.limit}) {'held' if figure.held else 'MISSED'} {dict(figure.values) or ''}")
