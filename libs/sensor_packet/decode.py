"""From the bytes of a packet to what may be done with it: the one place where every packet enters, by whatever way it came.

There are two ways through and one verdict. The exact way parses tolerantly and applies `rules.judge`; it alone decides what is
refused and why. The quick way reads the common case straight into typed structs and accepts only a packet in which nothing at
all is wrong or unusual: on any doubt (an unknown member, a null, a repeated key, a number beyond range, an escape `\\u0000`, a
version other than 1.0, …) it declines, and the exact way decides from the start. So what the quick way accepts, the exact way
accepts with an equal result; a property in the tests holds both to that. Unknown members make it decline because it could not
see what stands in them; a sender of a newer minor version is therefore read correctly, only slower.

JSON here is RFC 8259 in UTF-8 without byte order mark. `NaN`, `Infinity` and `-Infinity` are no JSON; a number too large for a
float is JSON and becomes infinite, which no value may be; of a repeated member the last counts, but text and nesting of the
earlier ones must still be well-formed. Depth is counted in the text, so that a repeated member can not hide it.
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime, timedelta
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from sensor_packet.catalogue import CATALOGUE, Scale, scaled
from sensor_packet.identifiers import IDENTIFIER
from sensor_packet.packet import (
    DEFAULT_MAX_AHEAD_S,
    MAX_DEPTH,
    MAX_MEASURANDS,
    MAX_PACKET_BYTES,
    MAX_PACKET_ID_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    MAX_UNIT_CHARACTERS,
    ClaimedIdentity,
    Measurand,
    Packet,
    Refusal,
)
from sensor_packet.rules import KEY, Fault, is_deeper_than, judge, refusal
from sensor_packet.timestamps import parse_timestamp

__all__ = ["ClaimedIdentity", "decode", "decode_document"]

_TOO_DEEP = Fault("MALFORMED_JSON", "", f"objects and arrays may be nested {MAX_DEPTH} deep")


def decode(
    body: bytes, *, received_at: datetime, claimed: ClaimedIdentity, max_ahead_s: float = DEFAULT_MAX_AHEAD_S
) -> Packet | Refusal:
    """Read one packet.

    `received_at` is aware; `claimed` is what topic, key or token say of the sender; `max_ahead_s` is how many seconds after
    `received_at` a packet may say it was sent or observed. A faulty packet is a Refusal, a faulty measurand stands in
    `Packet.refused`; no body makes this raise.
    """
    if len(body) > MAX_PACKET_BYTES:
        return refusal(Fault("PACKET_TOO_LARGE", "", f"{len(body)} bytes; at most {MAX_PACKET_BYTES} are taken"), claimed)
    packet = decode_quickly(body, received_at=received_at, claimed=claimed, max_ahead_s=max_ahead_s)
    if packet is not None:
        return packet
    return decode_exactly(body, received_at=received_at, claimed=claimed, max_ahead_s=max_ahead_s)


def decode_document(
    document: object, *, received_at: datetime, claimed: ClaimedIdentity, max_ahead_s: float = DEFAULT_MAX_AHEAD_S
) -> Packet | Refusal:
    """Apply the rules of `decode` to JSON that somebody else parsed (dict, list, str, int, float, bool, None).

    What only the text could tell is that parser's to check: its size, NaN tokens, invalid UTF-8 and the depth of repeated members.
    """
    if is_deeper_than(document):
        return refusal(_TOO_DEEP, claimed, document)
    return judge(document, received_at=received_at, claimed=claimed, max_ahead_s=max_ahead_s)


# --- the exact way --------------------------------------------------------------------------------

# A longer integer is beyond a float's range in any case, and converting it costs the square of its length.
_LONGEST_INTEGER = 400
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_BRACKETS_ALIKE = bytes.maketrans(b"{}", b"[]")
_ALL_BUT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def decode_exactly(body: bytes, *, received_at: datetime, claimed: ClaimedIdentity, max_ahead_s: float) -> Packet | Refusal:
    """Read a packet of admissible size rule by rule; see `decode`."""
    try:
        document = _parse(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        return refusal(Fault("MALFORMED_JSON", "", f"invalid UTF-8 at byte {error.start}"), claimed)
    except json.JSONDecodeError as error:
        return refusal(Fault("MALFORMED_JSON", "", f"{error.msg} at character {error.pos}"), claimed)
    except RecursionError:
        return refusal(_TOO_DEEP, claimed)
    if _nests_too_deep(body):
        return refusal(_TOO_DEEP, claimed, document)
    return judge(document, received_at=received_at, claimed=claimed, max_ahead_s=max_ahead_s)


def _refuse_constant(token: str) -> float:
    raise json.JSONDecodeError(f"{token} is no JSON", "", 0)


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)


_parse = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_integer).decode


def _nests_too_deep(body: bytes) -> bool:
    """Count the depth of well-formed JSON: each pass removes what is innermost, so as many passes empty it as it is deep."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return False
    brackets = _STRINGS.sub(b"", body).translate(_BRACKETS_ALIKE, _ALL_BUT_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


# --- the quick way --------------------------------------------------------------------------------


class _WireMeasurand(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    key: str
    value: bool | int | float | str
    unit: str | UnsetType = UNSET
    observed_at: str | UnsetType = UNSET
    quality: Literal["GOOD", "UNCERTAIN", "BAD"] = "GOOD"


class _WirePacket(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    schema_version: Literal["1.0"]
    packet_id: str
    gateway_id: str
    device_id: str
    sent_at: str
    measurands: list[_WireMeasurand]


_read = msgspec.json.Decoder(_WirePacket).decode
_AS_IT_IS = (1.0, 1.0)
# No identifier contains the slash, so the pair matches exactly where both do, in one call.
_is_pair = re.compile(f"{IDENTIFIER.pattern}/{IDENTIFIER.pattern}").fullmatch

# The catalogue once more, by type of value and ready for one look-up: what false and true read as; texts; bounds and scales.
_FLAGS: dict[str, tuple[bool | str, bool | str]] = {
    key: ("OFF", "ON") if "text" in entry.types else (False, True) for key, entry in CATALOGUE.items() if "boolean" in entry.types
}
_CHOICES: dict[str, frozenset[str]] = {key: frozenset(entry.choices) for key, entry in CATALOGUE.items() if "text" in entry.types}
_BOUNDS: dict[str, tuple[float, float, dict[str | None, Scale]]] = {
    key: (
        -math.inf if entry.minimum is None else entry.minimum,
        math.inf if entry.maximum is None else entry.maximum,
        {None: _AS_IT_IS, **entry.units},
    )
    for key, entry in CATALOGUE.items()
    if "number" in entry.types
}


def decode_quickly(body: bytes, *, received_at: datetime, claimed: ClaimedIdentity, max_ahead_s: float) -> Packet | None:
    """Read a packet of admissible size in which everything is as it should be; None means only "ask the exact way"."""
    if b"\\" in body and b"\\u0000" in body:
        return None
    try:
        wire = _read(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    sent_at = parse_timestamp(wire.sent_at)
    gateway_id, device_id = wire.gateway_id, wire.device_id
    if (
        sent_at is None
        or (sent_at > received_at and sent_at > received_at + timedelta(seconds=max_ahead_s))
        or not 0 < len(wire.packet_id) <= MAX_PACKET_ID_CHARACTERS
        or (gateway_id != claimed.gateway_id and claimed.gateway_id is not None)
        or (device_id != claimed.device_id and claimed.device_id is not None)
        or _is_pair(f"{gateway_id}/{device_id}") is None
    ):
        return None
    measurands = _quick_measurands(wire, sent_at, received_at, max_ahead_s)
    if measurands is None:
        return None
    return Packet(wire.packet_id, gateway_id, device_id, sent_at, measurands, ())


def _quick_measurands(
    wire: _WirePacket, sent_at: datetime, received_at: datetime, max_ahead_s: float
) -> tuple[Measurand, ...] | None:
    sent_text = wire.sent_at
    keys: set[str] = set()
    accepted: list[Measurand] = []
    for index, found in enumerate(wire.measurands):
        key, value, unit, observed_text = found.key, found.value, found.unit, found.observed_at
        if unit is UNSET:
            unit = None
        normalised = _quick_value(key, value, unit)
        if normalised is None:
            return None
        observed_at = sent_at
        if observed_text is not UNSET and observed_text != sent_text:
            moment = parse_timestamp(observed_text)
            if moment is None or (moment > received_at and moment > received_at + timedelta(seconds=max_ahead_s)):
                return None
            observed_at = moment
        keys.add(key)
        accepted.append(Measurand(index, key, value, normalised, unit, observed_at, found.quality))
    return tuple(accepted) if 0 < len(keys) == len(accepted) <= MAX_MEASURANDS else None


def _quick_value(key: str, value: bool | float | str, unit: str | None) -> bool | float | str | None:
    """Give the normalised value where key, value and unit are faultless, else None."""
    if value is True or value is False:
        readings = _FLAGS.get(key)
        if readings is not None:
            return readings[value] if unit is None else None
    elif isinstance(value, str):
        choices = _CHOICES.get(key)
        if choices is not None:
            return value if unit is None and value in choices else None
    else:
        bounds = _BOUNDS.get(key)
        if bounds is not None:
            minimum, maximum, scales = bounds
            scale = scales.get(unit)
            return scaled(value, scale) if scale is not None and minimum <= value <= maximum else None
    return None if key in CATALOGUE else _quick_uncatalogued_value(key, value, unit)


def _quick_uncatalogued_value(key: str, value: bool | float | str, unit: str | None) -> bool | float | str | None:
    if KEY.fullmatch(key) is None or (unit is not None and len(unit) > MAX_UNIT_CHARACTERS):
        return None
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT_CHARACTERS else None
    return scaled(value, _AS_IT_IS)
