"""Read dead letters back from the dead-letter topic, and tell which of them are still to be replayed.

A record carries the packet as it came and the facts in its headers (contracts/asyncapi.json). A whole packet must fit the id that
it bears, which is made from where it came from and its bytes. The database knows better where it has the letter: what it says of
status, receive time and failed actions counts, and a letter that is replayed or discarded there is left alone. What it has not
(a restored backup, another database) is made from the record alone, and put back together with its replay. Bytes that the database
let go of are taken from the record when they are the same by their hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

import msgspec

from event_store.dead_letters import BODY_LIMIT, DeadLetter, dead_letter_id
from event_store.store import EventStore
from sensor_packet.timestamps import parse_timestamp
from service_runtime.tracing import parse_traceparent

_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(\d{1,9})", re.ASCII)
_STAGES = frozenset({"DECODE", "VALIDATE", "AUTHORISE", "ROUTE", "APPLY"})


def letter_of_record(key: bytes | None, body: bytes, headers: Mapping[str, str]) -> DeadLetter | None:
    """The letter that a record of the Kafka topic tells of, `headers` by name as text; None where it is none of ours.

    A record that does not say when its packet came counts as received when it last failed.
    """
    found = _ID.fullmatch(headers.get("ce_id", ""))
    failed_at = parse_timestamp(headers.get("ce_time", ""))
    needed = [headers.get(f"ce_{name}") for name in ("reasoncode", "stage", "origin", "origintopic")]
    code, stage, source, topic = needed
    if found is None or failed_at is None or code is None or source is None or topic is None or stage not in _STAGES:
        return None
    length = _number(headers.get("ce_bodylength"))
    # Without its length nobody knows whether a body of the greatest size is all of it.
    length = length if length is not None else len(body) + (len(body) >= BODY_LIMIT)
    partition, offset = _number(headers.get("ce_originpartition")), _number(headers.get("ce_originoffset"))
    if len(body) == length and dead_letter_id(source, topic, key, partition, offset, body) != found[1]:
        return None
    traceparent = headers.get("traceparent")
    trace = parse_traceparent(traceparent)
    return DeadLetter(
        dead_letter_id=found[1],
        first_failed_at=failed_at,
        last_failed_at=failed_at,
        attempts=int(found[2]),
        status="PENDING",
        reason_code=code,
        stage=stage or "",
        detail=headers.get("ce_detail", ""),
        source=source,
        topic=topic,
        partition=partition,
        offset=offset,
        key=key,
        headers={"traceparent": traceparent} if traceparent is not None else {},
        body=body,
        body_length=length,
        body_sha256=hashlib.sha256(body).hexdigest(),
        received_at=parse_timestamp(headers.get("ce_receivedat", "")) or failed_at,
        depot_id=headers.get("ce_depotid"),
        gateway_id=headers.get("ce_gatewayid"),
        device_id=headers.get("ce_deviceid"),
        failed_actions=_failed_actions(headers.get("ce_failedactions", ""), code),
        trace_id=trace.trace_id if trace is not None else None,
    )


async def still_to_replay(store: EventStore, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """Letters from the topic, each with what the store knows of it, without those that are done."""
    known = await store.get_dead_letters([letter.dead_letter_id for letter in letters])
    wanted: list[DeadLetter] = []
    for letter in letters:
        stored = known.get(letter.dead_letter_id)
        if stored is None:
            wanted.append(letter)
        elif stored.status == "PENDING":
            wanted.append(_with_bytes(stored, letter))
    return wanted


def _with_bytes(stored: DeadLetter, letter: DeadLetter) -> DeadLetter:
    if stored.body_dropped_at is None or stored.body_sha256 != letter.body_sha256:
        return stored
    return msgspec.structs.replace(stored, body=letter.body, body_dropped_at=None)


def _failed_actions(text: str, code: str) -> list[dict[str, object]]:
    named: list[dict[str, object]] = []
    for one in text.split():
        pointer, _, action = one.partition("=")
        named.append({"pointer": pointer, "measurand": None, **({"action": action} if action else {}), "code": code})
    return named


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 18 else None
