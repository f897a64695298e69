"""The stream: the card first and whenever it changed, every event once and in order, also across a reconnection."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import Any

import httpx2
import msgspec
import pytest
from tests.read_api.conftest import Clock
from tests.read_api.seed import MICROGRID, T0, bind, capability, capacity, health, owner, put, put_health, put_remediation, run, soc

from event_store.append import append_events
from event_store.database import Pool
from read_api import stream, stream_client
from read_api.app import ReadApi

pytestmark = pytest.mark.usefixtures("site")


class Messages:
    """The messages of one connection, as a browser would read them."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.last_id: str | None = None
        self._lines = response.aiter_lines()

    async def next(self, name: str | None = None, *, within_s: float = 60) -> dict[str, Any]:
        """The next message (of a kind): its name as `is`, its id as `id`, and its data."""
        async with asyncio.timeout(within_s):
            while True:
                message = await self._read()
                if name in (None, message["is"]):
                    return message

    async def until_end(self, *, within_s: float = 60) -> list[dict[str, Any]]:
        """Every message until the server ends the stream."""
        found: list[dict[str, Any]] = []
        with contextlib.suppress(StopAsyncIteration, httpx2.HTTPError):
            async with asyncio.timeout(within_s):
                while True:
                    found.append(await self._read())
        return found

    async def nothing(self, name: str, *, for_s: float) -> None:
        """Make sure that no such message comes for a time."""
        with pytest.raises(TimeoutError):
            await self.next(name, within_s=for_s)

    async def _read(self) -> dict[str, Any]:
        fields: dict[str, str] = {}
        while True:
            line = await anext(self._lines)
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
                continue
            self.last_id = fields.get("id", self.last_id)
            if "data" in fields:
                return {"is": fields["event"], "id": fields.get("id"), **json.loads(fields["data"])}
            fields = {}


@contextlib.asynccontextmanager
async def listening(address: str, *, after: str | None = None, query: str = "") -> AsyncGenerator[Messages]:
    headers = {"Last-Event-ID": after} if after else {}
    async with (
        httpx2.AsyncClient(timeout=30) as http,
        http.stream("GET", f"{address}/api/microgrid/{MICROGRID}/stream{query}", headers=headers) as response,
    ):
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Messages(response)


async def test_a_stream_is_not_compressed_so_that_nothing_waits_in_a_compressor(address: str, pool: Pool) -> None:
    many = "SELECT 'solar-1' || i, 'd-1', NULL, 'SOLAR', 'Roof', 90 FROM generate_series(1, 40) i"
    await run(pool, f"INSERT INTO power_source (power_source_id, depot_id, circuit_id, kind, name, rated_kw) {many}")
    async with listening(address) as messages:
        assert "gzip" in messages.response.request.headers["accept-encoding"]
        assert "content-encoding" not in messages.response.headers
        assert len(json.dumps(await messages.next("card"))) > 8192


async def test_the_first_message_is_the_card_and_the_next_what_happens(address: str, pool: Pool) -> None:
    async with listening(address) as messages:
        first = await messages.next()
        assert (first["is"], first["id"], first["depot_name"], first["capabilities"]) == ("card", None, "Harbour", [])
        reported = capability("DER", True, T0)
        await put(pool, reported)
        event = await messages.next("event")
        assert (event["event_id"], event["event_type"]) == (reported.event_id, "CapabilityStatusReported")
        assert event["id"] == event["position"]
        card = await messages.next("card")
        assert [one["event_id"] for one in card["capabilities"]] == [reported.event_id]


async def test_measurements_come_only_to_who_asks_but_change_the_card(address: str, pool: Pool) -> None:
    async with listening(address) as plain, listening(address, query="?event_type=MeasurementRecorded") as asking:
        await plain.next("card")
        await asking.next("card")
        await put(pool, soc(74.5, T0))
        assert (await asking.next("event"))["event_type"] == "MeasurementRecorded"
        message = await plain.next()
        assert (message["is"], message["power_sources"][0]["soc_pct"]) == ("card", 74.5)


async def test_a_client_resumes_without_gap_and_without_repetition(
    address: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PAGE", 7)
    monkeypatch.setattr(stream_client, "PAGE", 7)
    sent: list[str] = []
    done = asyncio.Event()

    async def write() -> None:
        for number in range(300):
            reported = [
                capability("DER", bool(number % 2), T0 + timedelta(seconds=number)),
                soc(number / 3, T0 + timedelta(seconds=number)),
            ]
            await put(pool, *reported)
            sent.append(reported[0].event_id)
        done.set()

    got: list[str] = []
    last_id: str | None = None
    writing: asyncio.Task[None] | None = None
    while not (done.is_set() and len(got) >= len(sent)):
        async with listening(address, after=last_id) as messages:
            assert (await messages.next())["is"] == "card"
            writing = writing or asyncio.create_task(write())
            with contextlib.suppress(TimeoutError):
                for _ in range(23):
                    event = await messages.next("event", within_s=2)
                    got.append(event["event_id"])
            last_id = messages.last_id
    assert writing is not None
    await writing
    assert got == sent


async def test_a_client_that_saw_no_event_can_resume_too(address: str, pool: Pool) -> None:
    async with listening(address) as messages:
        await messages.next("card")
        await put(pool, soc(1.0, T0))
        await messages.next("card")
        last_id = messages.last_id
    missed = capability("DER", True, T0)
    await put(pool, missed)
    async with listening(address, after=last_id) as messages:
        assert (await messages.next("event"))["event_id"] == missed.event_id


async def test_an_event_whose_transaction_commits_late_is_not_skipped(address: str, database_url: str, pool: Pool) -> None:
    late_event, early_event = capability("DER", True, T0), capability("PEAK_SHAVING", True, T0)
    late = await owner(database_url)
    try:
        async with listening(address) as messages:
            await messages.next("card")
            transaction = late.transaction()
            await transaction.start()
            await late.execute("SET LOCAL role depotgrid_service")
            await late.set_type_codec("jsonb", encoder=str, decoder=json.loads, schema="pg_catalog")
            await append_events(late, [late_event])
            await put(pool, early_event)
            await messages.nothing("event", for_s=0.6)
        async with listening(address, after=messages.last_id) as resumed:
            await resumed.next("card")
            await transaction.commit()
            assert [(await resumed.next("event"))["event_id"] for _ in range(2)] == [late_event.event_id, early_event.event_id]
    finally:
        await late.close()


async def test_cards_come_at_most_four_times_a_second_and_the_newest_last(address: str, pool: Pool) -> None:
    loop = asyncio.get_running_loop()
    async with listening(address) as messages:
        await messages.next("card")
        began, cards, last = loop.time(), 0, -1.0
        for number in range(60):
            await put(pool, soc(float(number), T0 + timedelta(seconds=number)))
        while last != 59.0:
            last = (await messages.next("card"))["power_sources"][0]["soc_pct"]
            cards += 1
        # One more, for a look that had begun before and was told late.
        assert cards <= (loop.time() - began) / stream.CARD_INTERVAL_S + 2
        await messages.nothing("card", for_s=2 * stream.RECHECK_S)


async def test_the_clock_alone_sends_a_card(address: str, pool: Pool, clock: Clock) -> None:
    await bind(pool, "DER", stale_after_s=10)
    await put(pool, capability("DER", True, T0), capacity("gc-1", 350, T0))
    await put_health(pool, health(T0))
    async with listening(address) as messages:
        card = await messages.next("card")
        assert (card["capabilities"][0]["freshness"], card["circuits"][0]["heartbeat"]) == ("FRESH", "OK")
        clock.now = T0 + timedelta(seconds=11)
        card = await messages.next("card")
        assert (card["capabilities"][0]["freshness"], card["circuits"][0]["heartbeat"]) == ("STALE", "OK")
        clock.now = T0 + timedelta(seconds=60)
        assert (await messages.next("card"))["circuits"][0]["heartbeat"] == "LOST"


async def test_a_turn_of_the_clock_is_not_left_to_the_recheck(
    pool: Pool, read_api: ReadApi, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "RECHECK_S", 600.0)
    await bind(pool, "DER", stale_after_s=1)
    await put(pool, capability("DER", True, T0))
    backing = read_api.streams._backing  # pyright: ignore[reportPrivateUsage] - streams of our own on the same backing
    streams = stream.Streams(backing)
    following = asyncio.create_task(streams.run())
    found: list[str] = []
    try:
        async with asyncio.timeout(60), streams.client("d-1", MICROGRID, (), None) as client:
            async for message in client.messages(backing):
                if message.startswith(b"event: card\ndata: "):
                    found.append(json.loads(message.split(b"data: ", 1)[1])["capabilities"][0]["freshness"])
                    # However late it is: the card was made before the turn, and is looked at again when that is due.
                    clock.now = T0 + timedelta(seconds=2)
                if len(found) == 2:
                    break
    finally:
        following.cancel()
        await asyncio.wait({following})
    assert found == ["FRESH", "STALE"]


async def _becomes(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for: it is the absence of something
            await asyncio.sleep(0.02)


async def test_what_nobody_announces_shows_within_a_second_or_two(address: str, pool: Pool) -> None:
    async with listening(address) as messages:
        assert (await messages.next("card"))["remediation_count"] == 0
        await put_remediation(pool)
        assert (await messages.next("card"))["remediation_count"] == 1
        await run(pool, "UPDATE depot SET name = 'Quay'")
        assert (await messages.next("card"))["depot_name"] == "Quay"


async def test_clients_that_leave_leave_nothing_behind(address: str, read_api: ReadApi) -> None:
    before = len(asyncio.all_tasks())
    for _ in range(3):
        async with contextlib.AsyncExitStack() as stack:
            connected = [await stack.enter_async_context(listening(address)) for _ in range(5)]
            for messages in connected:
                await messages.next("card")
            assert read_api.streams.clients == 5
        await _becomes(lambda: not read_api.streams.clients and len(asyncio.all_tasks()) <= before)


async def test_a_client_that_does_not_read_is_let_go_and_one_that_does_is_not(
    address: str, read_api: ReadApi, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_client, "QUEUE_LIMIT", 60)
    host, _, port = address.removeprefix("http://").partition(":")
    silent, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(f"GET /api/microgrid/{MICROGRID}/stream HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await silent.readline()
    long = {"filler": "x" * 60_000}
    async with listening(address) as messages:
        await messages.next("card")
        assert read_api.streams.clients == 2
        async with asyncio.timeout(180):
            while read_api.streams.clients == 2:
                reported = [capability("DER", True, T0 + timedelta(seconds=number)) for number in range(4)]
                await put(pool, *(msgspec.structs.replace(one, payload={**one.payload, **long}) for one in reported))
                for one in reported:
                    assert (await messages.next("event"))["event_id"] == one.event_id
        assert read_api.streams.clients == 1
    writer.close()


async def test_stopping_ends_the_streams(address: str, read_api: ReadApi) -> None:
    async with listening(address) as messages:
        await messages.next("card")
        read_api.streams.end()
        await messages.until_end()


@pytest.mark.parametrize("last_event_id", ["x", "1", "1-2-3", "9" * 50])
async def test_a_last_event_id_that_is_none_is_refused(address: str, last_event_id: str) -> None:
    async with httpx2.AsyncClient(timeout=60) as http:
        refused = await http.get(f"{address}/api/microgrid/{MICROGRID}/stream", headers={"Last-Event-ID": last_event_id})
    assert (refused.status_code, refused.json()["code"]) == (422, "INVALID_CURSOR")


async def test_a_last_event_id_from_beyond_the_end_hides_nothing(address: str, pool: Pool) -> None:
    async with listening(address, after=f"{2**62}-1") as messages:
        await messages.next("card")
        reported = capability("DER", True, T0)
        await put(pool, reported)
        assert (await messages.next("event"))["event_id"] == reported.event_id
