"""Dead letters are found by cause and shown byte for byte."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

import pytest
from tests.read_api.conftest import Reader
from tests.read_api.seed import T0

from event_store.database import Pool
from event_store.dead_letters import DeadLetter, dead_letter_id, put_dead_letters
from read_api.dead_letters import readable


def letter(
    body: bytes, *, at: datetime, reason_code: str = "UNKNOWN_DEVICE", device_id: str | None = "dev-1", key: bytes | None = None
) -> DeadLetter:
    """A letter that failed once."""
    return DeadLetter(
        dead_letter_id=dead_letter_id("mqtt", "t", key, None, None, body),
        first_failed_at=at,
        last_failed_at=at,
        attempts=1,
        status="PENDING",
        reason_code=reason_code,
        stage="AUTHORISE",
        detail="no device",
        source="mqtt",
        topic="t",
        partition=None,
        offset=None,
        key=key,
        headers={"h": "v"},
        body=body,
        body_length=len(body),
        body_sha256=hashlib.sha256(body).hexdigest(),
        received_at=at,
        depot_id="d-1",
        gateway_id="gw-1",
        device_id=device_id,
        failed_actions=[{"pointer": "/device_id", "code": reason_code}],
        trace_id=None,
    )


async def _put(pool: Pool, *letters: DeadLetter) -> None:
    async with pool.acquire() as connection:
        await put_dead_letters(connection, list(letters))


async def test_letters_are_listed_last_failed_first_and_by_filter(pool: Pool, reader: Reader) -> None:
    stored = [letter(b"%d" % number, at=T0 + timedelta(seconds=number)) for number in range(5)]
    await _put(pool, *stored, letter(b"x", at=T0 - timedelta(days=1), reason_code="NOT_JSON", device_id=None))
    page = await reader.get("/api/dead-letter", limit=4)
    rest = await reader.get("/api/dead-letter", limit=4, cursor=page["next"])
    found = [one["dead_letter_id"] for one in page["items"] + rest["items"]]
    assert found[:5] == [one.dead_letter_id for one in reversed(stored)]
    assert rest["next"] is None
    by_reason = await reader.get("/api/dead-letter", reason_code="NOT_JSON")
    assert [one["dead_letter_id"] for one in by_reason["items"]] == found[5:]
    since = await reader.get("/api/dead-letter", since="2026-11-20T12:00:03Z", until="2026-11-20T12:00:04Z", status="PENDING")
    assert [one["dead_letter_id"] for one in since["items"]] == [stored[3].dead_letter_id]


async def test_letters_are_counted_by_what_was_asked_for(pool: Pool, reader: Reader) -> None:
    await _put(
        pool,
        letter(b"1", at=T0),
        letter(b"2", at=T0 + timedelta(seconds=9)),
        letter(b"3", at=T0, reason_code="NOT_JSON", device_id=None),
    )
    groups = (await reader.get("/api/dead-letter", group_by="reason_code,device_id"))["items"]
    assert [(one["group"], one["count"]) for one in groups] == [
        ({"reason_code": "UNKNOWN_DEVICE", "device_id": "dev-1"}, 2),
        ({"reason_code": "NOT_JSON", "device_id": None}, 1),
    ]
    assert (groups[0]["first_at"], groups[0]["last_at"]) == ("2026-11-20T12:00:00Z", "2026-11-20T12:00:09Z")
    await reader.get(f"/api/dead-letter/{groups[0]['sample_id']}")


async def test_a_letter_shows_its_bytes(pool: Pool, reader: Reader) -> None:
    text, binary = letter('{"ü": 1}\r\n'.encode(), at=T0, key=b"gw-1"), letter(b"\x00\xff", at=T0, key=b"\x01")
    await _put(pool, text, binary)
    shown = await reader.get(f"/api/dead-letter/{text.dead_letter_id}")
    assert (shown["body"], shown["body_encoding"], shown["key"], shown["key_encoding"]) == ('{"ü": 1}\r\n', "text", "gw-1", "text")
    assert shown["failed_actions"] == [{"pointer": "/device_id", "code": "UNKNOWN_DEVICE"}]
    shown = await reader.get(f"/api/dead-letter/{binary.dead_letter_id}")
    assert (shown["body"], shown["body_encoding"], shown["key"], shown["key_encoding"]) == ("00ff", "hex", "01", "hex")


async def test_a_cut_body_is_still_text(pool: Pool, reader: Reader) -> None:
    long = letter(b"x" + "ü".encode() * 40_000, at=T0)
    await _put(pool, long)
    shown = await reader.get(f"/api/dead-letter/{long.dead_letter_id}")
    assert (shown["body_encoding"], shown["body_truncated"], shown["body_length"]) == ("text", True, 80_001)
    assert shown["body"] == "x" + "ü" * 32_767


@pytest.mark.parametrize(
    ("data", "truncated", "expected"),
    [
        (b"", False, ("", "text")),
        (b"a\tb\r\n", False, ("a\tb\r\n", "text")),
        (b"a\0b", False, ("610062", "hex")),
        (b"a\x1bb", False, ("611b62", "hex")),
        (b"\xc3", False, ("c3", "hex")),
        (b"\xc3", True, ("", "text")),
        (b"\xc3a", True, ("c361", "hex")),
        (b"\xed\xa0\x80", False, ("eda080", "hex")),
    ],
)
def test_bytes_are_text_only_where_they_are_text(data: bytes, truncated: bool, expected: tuple[str, str]) -> None:
    assert readable(data, truncated=truncated) == expected
