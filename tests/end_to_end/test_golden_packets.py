"""Every golden packet, published to a real broker, comes to what the contract says."""

from __future__ import annotations

import hashlib
import itertools
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest
from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.end_to_end.controller_site import Site, packet
from tests.real_services.kafka_publisher import KafkaPublisher, start_group_at_end
from tests.real_services.packet_plan import NumberedPacket, Sender
from tests.real_services.sites import CONTROLLER, add_action
from tests.real_services.waiting import until

from sensor_packet.contract_files import read_contract

BODY_LIMIT = 64 * 1024


class Recipe(msgspec.Struct):
    prefix: str
    repeat: str
    times: int
    suffix: str


class Claimed(msgspec.Struct):
    gateway_id: str | None
    device_id: str | None


class Taken(msgspec.Struct):
    key: str
    normalised: bool | float | str


class Golden(msgspec.Struct):
    name: str
    claimed: Claimed
    file: str | None = None
    recipe: Recipe | None = None
    clock: str | None = None
    scope: str | None = None
    code: str | None = None
    stage: str | None = None
    accepted: list[Taken] = []
    refused: list[dict[str, str | None]] = []

    def body(self) -> bytes:
        """The packet's bytes, as if it had been made yesterday: what is old is taken, what is ahead is not."""
        if self.recipe is not None:
            body = (self.recipe.prefix + self.recipe.repeat * self.recipe.times + self.recipe.suffix).encode()
        else:
            body = read_contract(f"packets/{self.file}")
        yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
        return body.replace(b"2026-11-20", yesterday.encode())


class Index(msgspec.Struct):
    packets: list[Golden]


# Those with a fixed clock are about the receive time itself; `tests/contracts` holds them to it.
ALL = [golden for golden in msgspec.json.decode(read_contract("packets/index.json"), type=Index).packets if golden.clock is None]
GOLDENS = [golden for golden in ALL if golden.claimed == Claimed(CONTROLLER.gateway_id, CONTROLLER.device_id)]
RECORDED = sorted({taken.key for golden in GOLDENS for taken in golden.accepted})
KAFKA_GOLDENS = [golden for golden in ALL if golden.claimed.gateway_id is None and golden.claimed.device_id is not None]


@pytest.fixture
async def recording(site: Site) -> Site:
    """The site with every measurand of the golden packets recorded, and nothing else done with it."""
    connection = await asyncpg.connect(site.database_url)
    try:
        async with connection.transaction():
            await connection.execute("DELETE FROM sensor_action")
            for key in RECORDED:
                await add_action(connection, CONTROLLER.device_id, key, "RECORD_MEASUREMENT")
    finally:
        await connection.close()
    await _in_effect(site)
    return site


async def _in_effect(site: Site) -> None:
    numbers = itertools.count()

    async def known() -> bool:
        # Changes are learned in their order, so who knows the last knows all; and nothing was done with it before.
        await site.publish(packet(measurands=[{"key": RECORDED[-1], "value": "known?"}], packet_id=f"probe-{next(numbers)}"))
        return await site.count("event_store WHERE event_type = 'MeasurementRecorded'") > 0

    await until(known, "the actions are in effect", timeout_s=60)


async def test_every_invalid_golden_packet_is_a_dead_letter_with_its_code_and_its_bytes(recording: Site) -> None:
    site = recording
    bodies = {golden.name: golden.body() for golden in GOLDENS}
    await site.publish(*bodies.values())
    await site.settle()
    letters = {(row["body_sha256"], row["reason_code"]): row for row in await site.rows("SELECT * FROM dead_letter")}
    wrong: list[str] = []
    expected_letters: set[tuple[str, str]] = set()
    for golden in GOLDENS:
        if golden.code is None:
            continue
        body = bodies[golden.name]
        identity = (hashlib.sha256(body).hexdigest(), golden.code)
        expected_letters.add(identity)
        letter = letters.get(identity)
        if letter is None:
            wrong.append(f"{golden.name}: no letter under {golden.code}")
            continue
        if (letter["body"], letter["body_length"]) != (body[:BODY_LIMIT], len(body)):
            wrong.append(f"{golden.name}: other bytes")
        if golden.stage is not None and letter["stage"] != golden.stage:
            wrong.append(f"{golden.name}: stage {letter['stage']}")
        failed = [(one["pointer"], one["measurand"], one["code"]) for one in json.loads(letter["failed_actions"])]
        if failed != [(one["pointer"], one["key"], one["code"]) for one in golden.refused]:
            wrong.append(f"{golden.name}: failed {failed}")
    assert not wrong
    assert set(letters) == expected_letters
    assert {letter["attempts"] for letter in letters.values()} == {1}


async def test_what_golden_packets_have_right_is_stored_with_its_value_and_nothing_else(recording: Site) -> None:
    site = recording
    await site.publish(*(golden.body() for golden in GOLDENS))
    await site.settle()
    found: dict[str, list[tuple[str, object]]] = {}
    for row in await site.rows("SELECT source_event_ref, payload FROM event_store ORDER BY transaction_id, global_position"):
        # As floats: `jsonb` spells a great number out in digits.
        payload = json.loads(row["payload"], parse_int=float)
        found.setdefault(row["source_event_ref"], []).append((payload["measurand"], payload["value"]))
    wrong = [
        golden.name
        for golden in GOLDENS
        if golden.accepted and found.pop(_packet_id(golden), None) != [(taken.key, taken.normalised) for taken in golden.accepted]
    ]
    assert not wrong
    assert await site.schema_faults() == []
    assert all(reference.startswith(("probe-", "marker-")) for reference in found)


def _packet_id(golden: Golden) -> str:
    return str(json.loads(golden.body(), parse_int=str)["packet_id"])


async def test_golden_packets_that_are_about_a_records_key_come_to_what_they_must(recording: Site, kafka: EmbeddedKafka) -> None:
    group = "golden-packets"
    await start_group_at_end(kafka.bootstrap_servers, group, 4)
    recording.another_worker(kafka=kafka.bootstrap_servers, kafka_group_id=group)
    records = [NumberedPacket(1, Sender("", one.claimed.device_id or ""), "", one.body()) for one in KAFKA_GOLDENS]
    await KafkaPublisher(kafka.bootstrap_servers, records).run()
    for golden in KAFKA_GOLDENS:
        if golden.code is None:
            await recording.arrives("event_store WHERE source_event_ref = $1", _packet_id(golden))
        else:
            digest = hashlib.sha256(golden.body()).hexdigest()
            await recording.arrives("dead_letter WHERE (body_sha256, reason_code) = ($1, $2)", digest, golden.code)
    assert len(KAFKA_GOLDENS) >= 3
