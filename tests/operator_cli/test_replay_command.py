"""`depotgrid dead-letter replay` and `discard` on a real database, and letters read back from Kafka."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.real_services.sites import rows

from event_relay.messages import outgoing
from event_store.database import open_pool
from event_store.dead_letters import DeadLetter, DeadLetterFilter
from event_store.outbox import OutboxEntry, OutboxPosition
from event_store.store import PostgresEventStore
from microgrid.directory import SiteDirectory
from operator_cli.main import run
from sensor_packet.packet import ClaimedIdentity
from sensor_packet.topics import KAFKA_DEAD_LETTER_TOPIC, mqtt_packet_topic
from site_operations.ingest import Ingest, RawPacket
from site_operations.replay_topic import letter_of_record

NOW = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)
_SITE = """
INSERT INTO depot (depot_id, name, timezone) VALUES ('d', 'Depot', 'UTC');
INSERT INTO gateway (gateway_id, depot_id, name) VALUES ('gw', 'd', 'Gateway');
INSERT INTO device (device_id, depot_id, gateway_id) VALUES ('dev', 'd', 'gw');
INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action) VALUES
    (gen_random_uuid(), 'd', 'dev', 'SOC', 'RECORD_MEASUREMENT');
"""


def _packet(number: int, device_id: str = "dev") -> RawPacket:
    body: dict[str, Any] = {
        "schema_version": "1.0",
        "packet_id": f"p-{number}",
        "gateway_id": "gw",
        "device_id": device_id,
        "sent_at": NOW.isoformat(),
        "measurands": [{"key": "SOC", "value": number}],
    }
    topic = mqtt_packet_topic("gw", device_id)
    return RawPacket(json.dumps(body).encode(), "mqtt", topic, ClaimedIdentity("gw", device_id), NOW)


async def _letters(url: str, *packets: RawPacket) -> list[DeadLetter]:
    """Dead letters of packets that came when nobody was configured; then device `dev` is."""
    pool = await open_pool(url, "tests")
    store = PostgresEventStore(pool)
    ingest = Ingest(store, SiteDirectory(), lambda: NOW)
    await ingest.store([ingest.prepare(one) for one in packets])
    letters = await store.list_dead_letters(DeadLetterFilter(), 1000)
    await pool.close()
    connection = await asyncpg.connect(url)
    await connection.execute(_SITE)
    await connection.close()
    return sorted(letters, key=lambda one: one.body)


@pytest.fixture
def letters(database_url: str) -> list[DeadLetter]:
    """Three letters that can be replayed, and one of a device that nobody knows."""
    return asyncio.run(_letters(database_url, *(_packet(number) for number in range(3)), _packet(9, "nobody")))


def _statuses(url: str) -> list[str]:
    return [row[0] for row in asyncio.run(rows(url, "SELECT status FROM dead_letter ORDER BY status"))]


def _audit(url: str) -> list[tuple[Any, ...]]:
    found = asyncio.run(rows(url, "SELECT principal, method, path, status, request FROM audit ORDER BY audit_id"))
    return [tuple(row) for row in found]


@pytest.mark.usefixtures("letters")
def test_a_replay_tells_each_outcome_and_who_did_it_and_fails_while_a_letter_does(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dead-letter", "replay", "--database-url", database_url, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["total"], told["done"], told["outcomes"]) == (4, 4, {"STORED": 3, "DEAD_LETTERED": 1})
    assert _statuses(database_url) == ["PENDING", "REPLAYED", "REPLAYED", "REPLAYED"]
    (begun, ended) = _audit(database_url)
    assert (begun[1:4], ended[1:4]) == (("RUN", "depotgrid dead-letter replay", 202), ("RUN", "depotgrid dead-letter replay", 200))
    assert json.loads(ended[4]) == {"done": 4, "outcomes": {"STORED": 3, "DEAD_LETTERED": 1}}
    assert begun[0].startswith("shell")
    assert run(["dead-letter", "replay", "--device", "dev", "--database-url", database_url]) == 0
    out, err = capsys.readouterr()
    assert "STORED" not in out
    assert err == ""


def test_a_trial_shows_the_difference_and_stores_nothing(
    database_url: str, letters: list[DeadLetter], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dead-letter", "replay", "--dry-run", "--id", letters[0].dead_letter_id, "--database-url", database_url]) == 0
    out, _ = capsys.readouterr()
    assert f"{letters[0].dead_letter_id}  STORED" in out
    assert "MeasurementRecorded of device/dev/SOC, the latest from now on" in out
    assert "a trial: nothing was stored" in out
    assert _statuses(database_url) == ["PENDING"] * 4


@pytest.mark.usefixtures("letters")
def test_what_is_given_up_is_chosen_and_explained(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--database-url", database_url]
    assert run(["dead-letter", "discard", "--why", "never ours", *where]) == 2
    assert "--all" in capsys.readouterr().err
    assert run(["dead-letter", "discard", "--device", "nobody", "--why", " ", *where]) == 2
    capsys.readouterr()
    assert run(["dead-letter", "discard", "--device", "nobody", "--why", "never ours", *where]) == 0
    assert capsys.readouterr().out == "1 dead letters discarded\n"
    assert _statuses(database_url) == ["DISCARDED", "PENDING", "PENDING", "PENDING"]
    assert json.loads(_audit(database_url)[-1][4]) == {"why": "never ours", "discarded": 1}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--id", "x"], "--id"),
        (["--since", "yesterday"], "--since"),
        (["--rate", "fast"], "--rate"),
        (["--rate", "0/s"], "--rate"),
        (["--limit", "0"], "--limit"),
        (["--from-topic"], "--from-topic"),
        ([], "DEPOTGRID_DATABASE_URL"),
    ],
)
def test_wrong_usage_is_named(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(f"DEPOTGRID_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    assert run(["dead-letter", "replay", *arguments]) == 2
    assert named in capsys.readouterr().err


def _headers(letter: DeadLetter, **changed: str | None) -> dict[str, str]:
    message = outgoing(_entry(letter), "kafka")
    assert message is not None
    headers = {name: value.decode() for name, value in message.headers} | changed
    return {name: value for name, value in headers.items() if value is not None}


def _entry(letter: DeadLetter) -> OutboxEntry:
    return OutboxEntry(OutboxPosition(1, 1), 0, None, letter, None)


async def _publish(servers: str, letters: list[DeadLetter]) -> None:
    producer: Any = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    await producer.send_and_wait(KAFKA_DEAD_LETTER_TOPIC, b"somebody else's", headers=[("ce_id", b"x")])
    for letter in letters:
        message = outgoing(_entry(letter), "kafka")
        assert message is not None
        await producer.send_and_wait(message.topic, message.body, key=message.key, headers=message.headers)
    await producer.stop()


def test_letters_come_back_from_the_topic_also_where_the_database_has_lost_them(
    database_url: str, letters: list[DeadLetter], kafka: EmbeddedKafka, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(_publish(kafka.bootstrap_servers, [*letters, letters[0]]))
    first, second, third, _ = (one.dead_letter_id for one in letters)
    lost = (
        f"DELETE FROM dead_letter WHERE dead_letter_id = '{first}'",
        f"UPDATE dead_letter SET body = '', body_dropped_at = now() WHERE dead_letter_id = '{second}'",
        f"UPDATE dead_letter SET status = 'DISCARDED' WHERE dead_letter_id = '{third}'",
    )
    for statement in lost:
        asyncio.run(rows(database_url, statement))
    ours = [word for one in letters for word in ("--id", str(one.dead_letter_id))]  # others publish to the topic, too
    where = ["--from-topic", "--kafka", kafka.bootstrap_servers, "--database-url", database_url, *ours, "--json"]
    assert run(["dead-letter", "replay", "--dry-run", *where]) == 0
    trial = json.loads(capsys.readouterr().out)
    assert run(["dead-letter", "replay", *where]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["outcomes"] == {"STORED": 2, "DEAD_LETTERED": 1}
    assert told["letters"] == trial["letters"]
    found = asyncio.run(rows(database_url, "SELECT dead_letter_id::text AS id, status, received_at, body FROM dead_letter"))
    by_id = {row["id"]: row for row in found}
    assert [by_id[one]["status"] for one in (first, second, third)] == ["REPLAYED", "REPLAYED", "DISCARDED"]
    assert (by_id[first]["received_at"], by_id[second]["body"]) == (NOW, letters[1].body)


def test_a_record_gives_the_letter_back_and_one_that_is_not_ours_gives_none(letters: list[DeadLetter]) -> None:
    letter = letters[0]
    back = letter_of_record(letter.key, letter.body, _headers(letter))
    assert back is not None
    for name in ("dead_letter_id", "reason_code", "topic", "received_at", "body_length", "body_sha256", "device_id", "attempts"):
        assert getattr(back, name) == getattr(letter, name), name
    for wrong in (None, "no id", f"{letters[1].dead_letter_id}.1"):
        assert letter_of_record(letter.key, letter.body, _headers(letter, ce_id=wrong)) is None
    assert letter_of_record(letter.key, letter.body, _headers(letter, ce_stage="LATER")) is None
