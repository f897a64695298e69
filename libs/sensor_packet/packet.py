"""What a sensor packet is once it has been read: accepted measurands, measurands refused alone, or one refusal of the whole."""

from __future__ import annotations

from datetime import datetime

import msgspec

MAX_PACKET_BYTES = 64 * 1024
MAX_MEASURANDS = 256
MAX_PACKET_ID_CHARACTERS = 64
MAX_TEXT_CHARACTERS = 256
MAX_UNIT_CHARACTERS = 64
MAX_DEPTH = 32
DEFAULT_MAX_AHEAD_S = 300.0
QUALITIES = ("GOOD", "UNCERTAIN", "BAD")


class Measurand(msgspec.Struct, frozen=True, gc=False):
    """One accepted named value.

    `index` is its place in the packet's list, `value` and `unit` are as sent, `normalised` is the value in the catalogue's unit
    (a float for every number, "ON"/"OFF" for a power state sent as boolean), `observed_at` is UTC.
    """

    index: int
    key: str
    value: bool | int | float | str
    normalised: bool | float | str
    unit: str | None
    observed_at: datetime
    quality: str


class RefusedMeasurand(msgspec.Struct, frozen=True, gc=False):
    """One measurand refused alone. `key` is given where a valid one could be read; `pointer` is a JSON pointer into the packet."""

    index: int
    key: str | None
    code: str
    pointer: str
    detail: str


class Packet(msgspec.Struct, frozen=True, gc=False):
    """A packet whose envelope holds. `measurands` and `refused` are each in the order of the packet; `sent_at` is UTC."""

    packet_id: str
    gateway_id: str
    device_id: str
    sent_at: datetime
    measurands: tuple[Measurand, ...]
    refused: tuple[RefusedMeasurand, ...]


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A whole packet refused; nothing of it may be applied.

    `stage` is DECODE, VALIDATE or AUTHORISE. The ids say whom to ask: the claimed identity where it is a valid identifier,
    since a broker's access list vouches for that one, else what the packet itself says, else None.
    """

    code: str
    stage: str
    pointer: str
    detail: str
    gateway_id: str | None
    device_id: str | None


class ClaimedIdentity(msgspec.Struct, frozen=True, gc=False):
    """What the way by which a packet came says of its sender (topic, Kafka key, token). None: that side says nothing.

    A Kafka record without a key claims the device "", which no packet can match.
    """

    gateway_id: str | None
    device_id: str | None
