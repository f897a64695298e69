"""Seeded, numbered packets: what a publisher sends, and what must have become of it in the database.

Every packet has a number; the numbers of one device ascend in the order of sending. Each good packet has four measurands, of which
`ACTIVE_POWER` is bound (see `sites.py`), so it must end in exactly one event. A share of the packets may be poison of a dozen kinds
(each must end in exactly one dead letter under its code), sent twice, or observed up to an hour earlier. The same seed gives the
same packets, but for the time from which they count.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

BOUND_MEASURAND = "ACTIVE_POWER"
_STEP = timedelta(microseconds=50)
_TOO_LARGE_BYTES = 80_000
HUGE_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class Sender:
    """A device and the gateway that speaks for it."""

    gateway_id: str
    device_id: str


@dataclass(frozen=True, slots=True)
class NumberedPacket:
    """One packet to publish as if from `sender`. `code` is the reason code under which it must be refused, None for a good one."""

    number: int
    sender: Sender
    packet_id: str
    body: bytes
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Mixture:
    """Shares (0 to 1) of packets that are poison, sent twice in a row, or observed up to an hour earlier.

    `huge`: how many packets of 10 MB are in it besides, spread evenly.
    """

    poison: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    huge: int = 0


_GOOD = Mixture()


def plan_packets(
    senders: Sequence[Sender], count: int, now: datetime, *, seed: int = 1, mixture: Mixture = _GOOD, run: str = "r"
) -> list[NumberedPacket]:
    """`count` packets from random senders, numbered from 1; duplicates come on top. `now` is about when they are sent."""
    chance = random.Random(seed)
    packets: list[NumberedPacket] = []
    huge = {1 + (2 * place + 1) * count // (2 * mixture.huge) for place in range(mixture.huge)}
    for number in range(1, count + 1):
        sender = chance.choice(senders)
        packet_id = f"{run}-{seed}-{number:07d}"
        sent_at = now + number * _STEP
        if chance.random() < mixture.late:
            sent_at -= timedelta(seconds=chance.uniform(1, 3600))
        document = _document(sender, packet_id, sent_at, chance)
        packet = NumberedPacket(number, sender, packet_id, json.dumps(document, separators=(",", ":")).encode())
        if chance.random() < mixture.poison:
            code, body, sender = _POISONS[number % len(_POISONS)](document, sender, senders)
            packet = NumberedPacket(number, sender, packet_id, body, code)
        if number in huge:
            packet = NumberedPacket(number, sender, packet_id, _encoded(document, padding="x" * HUGE_BYTES), "PACKET_TOO_LARGE")
        packets.append(packet)
        if chance.random() < mixture.duplicate:
            packets.append(packet)
    return packets


def _document(sender: Sender, packet_id: str, sent_at: datetime, chance: random.Random) -> dict[str, object]:
    return {
        "schema_version": "1.0",
        "packet_id": packet_id,
        "gateway_id": sender.gateway_id,
        "device_id": sender.device_id,
        "sent_at": sent_at.isoformat(),
        "measurands": [
            {"key": BOUND_MEASURAND, "value": round(chance.uniform(-250, 250), 3), "unit": "kW"},
            {"key": "SOC", "value": round(chance.uniform(0, 100), 2)},
            {"key": "DISPATCH_STATE", "value": chance.choice(("IDLE", "CHARGING", "DISCHARGING"))},
            {"key": "IMPORT_ENERGY", "value": round(chance.uniform(0, 1e6), 1)},
        ],
    }


_Document = dict[str, object]
_Poison = Callable[[_Document, Sender, Sequence[Sender]], tuple[str, bytes, Sender]]


def _encoded(document: _Document, **changes: object) -> bytes:
    return json.dumps({**document, **changes}).encode()


def _spoofed_gateway(document: _Document, sender: Sender, senders: Sequence[Sender]) -> tuple[str, bytes, Sender]:
    """A gateway that speaks, on its own topic, for a device of another one."""
    thief = next((other.gateway_id for other in senders if other.gateway_id != sender.gateway_id), "gw-nobody")
    code = "UNKNOWN_DEVICE" if thief == "gw-nobody" else "DEVICE_NOT_OWNED"
    return code, _encoded(document, gateway_id=thief), Sender(thief, sender.device_id)


_POISONS: tuple[_Poison, ...] = (
    lambda d, s, _: ("MALFORMED_JSON", _encoded(d)[:-2], s),
    lambda d, s, _: ("MALFORMED_JSON", _encoded(d, extra=float("nan")), s),
    lambda d, s, _: ("MALFORMED_JSON", _encoded(d)[:-1] + b',"x":"\xff\xfe"}', s),
    lambda d, s, _: ("MALFORMED_JSON", _encoded(d)[:-1] + b',"x":' + b"[" * 1000 + b"]" * 1000 + b"}", s),
    lambda d, s, _: ("PACKET_TOO_LARGE", _encoded(d, padding="x" * _TOO_LARGE_BYTES), s),
    lambda d, s, _: ("INVALID_PACKET", _encoded(d, measurands={"ACTIVE_POWER": 1}), s),
    lambda d, s, _: ("UNSUPPORTED_SCHEMA_VERSION", _encoded(d, schema_version="2.0"), s),
    lambda d, s, _: ("IDENTITY_MISMATCH", _encoded(d, device_id=f"not-{s.device_id}"), s),
    lambda d, s, _: ("UNKNOWN_DEVICE", _encoded(d, device_id="dev-nobody"), Sender(s.gateway_id, "dev-nobody")),
    _spoofed_gateway,
    lambda d, s, _: ("INVALID_TIMESTAMP", _encoded(d, sent_at="2026-11-20T21:00:00"), s),
    lambda d, s, _: ("CLOCK_SKEW", _encoded(d, sent_at="2999-01-01T00:00:00Z"), s),
    lambda d, s, _: ("INVALID_VALUE", _encoded(d, measurands=[{"key": BOUND_MEASURAND, "value": "much"}]), s),
)
