"""Events, dead letters and healths for tests, and the two stores that must behave alike."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from event_store.dead_letters import DeadLetter, dead_letter_id
from microgrid.circuit_capacity import ControllerHealth
from microgrid.events import Event

NOW = datetime(2026, 11, 20, 21, 0, 0, tzinfo=UTC)
MICROGRID_ID = "00000000-0000-7000-8000-0000000000aa"


def seconds(value: float) -> datetime:
    return NOW + timedelta(seconds=value)


def uuid(number: int) -> str:
    return f"00000000-0000-7000-8000-{number:012d}"


def event(number: int = 0, **fields: Any) -> Event:
    """A report; those of different numbers have different ids."""
    known: dict[str, Any] = {
        "event_id": uuid(number),
        "event_type": "MeasurementRecorded",
        "depot_id": "depot",
        "microgrid_id": MICROGRID_ID,
        "subject": "device/dev/SOC",
        "history_only": False,
        "observed_at": NOW,
        "sent_at": NOW,
        "source_event_ref": "packet-1",
        "payload": {"value": 74.5, "text": "ä€😀", "nothing": None, "list": [1, True]},
        "metadata": {"traceparent": "00-0"},
    }
    return Event(**{**known, **fields})


def letter(body: bytes = b"not json", **fields: Any) -> DeadLetter:
    known: dict[str, Any] = {
        "dead_letter_id": dead_letter_id("mqtt", "iot/v1/gw/dev/packet", None, None, None, body),
        "first_failed_at": NOW,
        "last_failed_at": NOW,
        "attempts": 1,
        "status": "PENDING",
        "reason_code": "MALFORMED_JSON",
        "stage": "DECODE",
        "detail": "not JSON",
        "source": "mqtt",
        "topic": "iot/v1/gw/dev/packet",
        "partition": None,
        "offset": None,
        "key": None,
        "headers": {"traceparent": "00-0"},
        "body": body,
        "body_length": len(body),
        "body_sha256": hashlib.sha256(body).hexdigest(),
        "received_at": NOW,
        "depot_id": "depot",
        "gateway_id": "gw",
        "device_id": "dev",
        "failed_actions": [{"pointer": "/measurands/0", "measurand": "SOC", "code": "INVALID_VALUE"}],
        "trace_id": None,
    }
    return DeadLetter(**{**known, **fields})


def health(number: int = 0, **fields: Any) -> ControllerHealth:
    one = ControllerHealth(uuid(number), "dev", "gw", "depot", MICROGRID_ID, "gc-1")
    return msgspec.structs.replace(one, **fields)
