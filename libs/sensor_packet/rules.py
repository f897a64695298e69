"""The rules of a packet, one by one, over a parsed JSON document.

The envelope's rules are tried in a fixed order and the first broken one refuses the whole packet: the document is an object and
not nested too deep, schema version, packet id, identifiers, agreement with the claimed identity (gateway before device), time
of sending, 1 to 256 measurands, and last U+0000 within members that nobody knows. After that each measurand stands alone: it is
an object; time observed; key, and that it occurs once; value; unit; quality; then U+0000 within its unknown members. A bad
measurand is refused with the code of its first broken rule and its neighbours count. A key counts as occurring also where its
measurand is refused for something else, so a repeated key loses every occurrence, each with its own first broken rule.

U+0000 and lone surrogates can not be stored as text, so known members refuse both with their own code; in unknown members,
which are not kept, a lone surrogate or a number beyond a float's range is ignored. Pointers and details never carry such
characters, nor more than a few dozen characters of what was sent.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, timedelta
from typing import NamedTuple, cast

from sensor_packet.catalogue import CATALOGUE, CatalogueEntry, scaled
from sensor_packet.identifiers import is_identifier
from sensor_packet.packet import (
    MAX_DEPTH,
    MAX_MEASURANDS,
    MAX_PACKET_ID_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    MAX_UNIT_CHARACTERS,
    QUALITIES,
    ClaimedIdentity,
    Measurand,
    Packet,
    Refusal,
    RefusedMeasurand,
)
from sensor_packet.timestamps import parse_timestamp

SCHEMA_VERSION = re.compile(r"1\.(?:0|[1-9][0-9]*)")
KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_ENVELOPE_MEMBERS = frozenset({"schema_version", "packet_id", "gateway_id", "device_id", "sent_at", "measurands"})
_MEASURAND_MEMBERS = frozenset({"key", "value", "unit", "observed_at", "quality"})
_STAGES = {"PACKET_TOO_LARGE": "DECODE", "MALFORMED_JSON": "DECODE", "IDENTITY_MISMATCH": "AUTHORISE"}
_ABSENT = object()

Members = dict[str, object]


class Fault(NamedTuple):
    """One broken rule: its reason code, a JSON pointer to what broke it and a sentence for people."""

    code: str
    pointer: str
    detail: str


def refusal(fault: Fault, claimed: ClaimedIdentity, document: object = None) -> Refusal:
    """Make the refusal of a whole packet, with the ids of whoever is to be asked about it."""
    members = cast(Members, document) if isinstance(document, dict) else {}
    return Refusal(
        code=fault.code,
        stage=_STAGES.get(fault.code, "VALIDATE"),
        pointer=fault.pointer,
        detail=fault.detail,
        gateway_id=_first_identifier(claimed.gateway_id, members.get("gateway_id")),
        device_id=_first_identifier(claimed.device_id, members.get("device_id")),
    )


def judge(document: object, *, received_at: datetime, claimed: ClaimedIdentity, max_ahead_s: float) -> Packet | Refusal:
    """Apply every rule to a parsed document whose depth has been seen to; `max_ahead_s` is in seconds of `received_at`."""
    if not isinstance(document, dict):
        return refusal(Fault("MALFORMED_JSON", "", "a packet is one JSON object"), claimed)
    members = cast(Members, document)
    latest = received_at + timedelta(seconds=max_ahead_s)
    fault = _heading_fault(members, claimed)
    if fault is not None:
        return refusal(fault, claimed, members)
    sent_at = _time(members.get("sent_at"), "/sent_at", latest)
    if isinstance(sent_at, Fault):
        return refusal(sent_at, claimed, members)
    fault = _list_fault(members.get("measurands")) or _unknown_member_fault(members, _ENVELOPE_MEMBERS, "INVALID_PACKET", "")
    if fault is not None:
        return refusal(fault, claimed, members)
    items = cast(list[object], members["measurands"])
    occurrences = Counter(key for item in items if (key := _valid_key(item)) is not None)
    accepted: list[Measurand] = []
    refused: list[RefusedMeasurand] = []
    for index, item in enumerate(items):
        verdict = _measurand(index, item, occurrences, sent_at, latest)
        if isinstance(verdict, Fault):
            refused.append(RefusedMeasurand(index, _valid_key(item), *verdict))
        else:
            accepted.append(verdict)
    return Packet(
        packet_id=cast(str, members["packet_id"]),
        gateway_id=cast(str, members["gateway_id"]),
        device_id=cast(str, members["device_id"]),
        sent_at=sent_at,
        measurands=tuple(accepted),
        refused=tuple(refused),
    )


def is_deeper_than(document: object, limit: int = MAX_DEPTH) -> bool:
    """Tell whether a parsed document nests more than `limit` objects and arrays, the outermost counted."""
    level: list[object] = [document]
    for _ in range(limit + 1):
        level = [container for container in level if isinstance(container, dict | list)]
        if not level:
            return False
        level = [child for container in level for child in _children(container)]
    return True


def _children(container: object) -> list[object]:
    if isinstance(container, dict):
        return list(cast(Members, container).values())
    return cast(list[object], container) if isinstance(container, list) else []


def _first_identifier(*candidates: object) -> str | None:
    return next((text for text in candidates if isinstance(text, str) and is_identifier(text)), None)


def _heading_fault(members: Members, claimed: ClaimedIdentity) -> Fault | None:
    version = members.get("schema_version")
    if not isinstance(version, str) or SCHEMA_VERSION.fullmatch(version) is None:
        return Fault(
            "UNSUPPORTED_SCHEMA_VERSION", "/schema_version", f"must be text such as 1.0, of major version 1, not {_shown(version)}"
        )
    packet_id = members.get("packet_id")
    if not isinstance(packet_id, str) or not 1 <= len(packet_id) <= MAX_PACKET_ID_CHARACTERS or _UNSTORABLE.search(packet_id):
        return Fault(
            "INVALID_PACKET", "/packet_id", f"must be text of 1 to {MAX_PACKET_ID_CHARACTERS} characters, not {_shown(packet_id)}"
        )
    for name in ("gateway_id", "device_id"):
        found = members.get(name)
        if not isinstance(found, str) or not is_identifier(found):
            return Fault("INVALID_PACKET", f"/{name}", f"must be 1 to 64 of A-Z a-z 0-9 . _ : -, not {_shown(found)}")
    for name, claim in (("gateway_id", claimed.gateway_id), ("device_id", claimed.device_id)):
        if claim is not None and claim != members[name]:
            return Fault(
                "IDENTITY_MISMATCH", f"/{name}", f"the packet says {_shown(members[name])}, the way it came says {_shown(claim)}"
            )
    return None


def _time(found: object, pointer: str, latest: datetime) -> datetime | Fault:
    moment = parse_timestamp(found) if isinstance(found, str) else None
    if moment is None:
        return Fault("INVALID_TIMESTAMP", pointer, f"must be an RFC 3339 time with offset, not {_shown(found)}")
    if moment > latest:
        return Fault("CLOCK_SKEW", pointer, f"{moment.isoformat()} is later than {latest.isoformat()}, the latest believable now")
    return moment


def _list_fault(found: object) -> Fault | None:
    if not isinstance(found, list):
        return Fault("INVALID_PACKET", "/measurands", f"must be a list of 1 to {MAX_MEASURANDS}, not {_shown(found)}")
    count = len(cast(list[object], found))
    if not 1 <= count <= MAX_MEASURANDS:
        return Fault("INVALID_PACKET", "/measurands", f"must have 1 to {MAX_MEASURANDS} measurands, not {count}")
    return None


def _valid_key(item: object) -> str | None:
    key = cast(Members, item).get("key") if isinstance(item, dict) else None
    return key if isinstance(key, str) and KEY.fullmatch(key) else None


def _measurand(index: int, item: object, occurrences: Counter[str], sent_at: datetime, latest: datetime) -> Measurand | Fault:
    pointer = f"/measurands/{index}"
    if not isinstance(item, dict):
        return Fault("INVALID_PACKET", pointer, f"must be an object, not {_shown(item)}")
    members = cast(Members, item)
    observed_at = _time(members["observed_at"], f"{pointer}/observed_at", latest) if "observed_at" in members else sent_at
    if isinstance(observed_at, Fault):
        return observed_at
    key = _valid_key(members)
    if key is None:
        return Fault(
            "INVALID_PACKET", f"{pointer}/key", f"must be a letter and up to 63 of A-Z a-z 0-9 _, not {_shown(members.get('key'))}"
        )
    if occurrences[key] > 1:
        return Fault("DUPLICATE_MEASURAND", f"{pointer}/key", f"{key} occurs {occurrences[key]} times in this packet")
    entry = CATALOGUE.get(key)
    value, unit = members.get("value"), members.get("unit", _ABSENT)
    why = _value_fault(value, entry)
    if why is not None:
        return Fault("INVALID_VALUE", f"{pointer}/value", f"{key} {why}")
    why = _unit_fault(unit, entry)
    if why is not None:
        return Fault("INVALID_UNIT", f"{pointer}/unit", f"{key} {why}")
    sent_value = cast("bool | int | float | str", value)
    sent_unit = unit if isinstance(unit, str) else None
    normalised = _normalised(sent_value, sent_unit, entry)
    if normalised is None:
        return Fault("INVALID_VALUE", f"{pointer}/value", f"{key} is not finite in {entry.unit if entry else 'its unit'}")
    quality = members.get("quality", "GOOD")
    if not isinstance(quality, str) or quality not in QUALITIES:
        return Fault("INVALID_VALUE", f"{pointer}/quality", f"must be one of {', '.join(QUALITIES)}, not {_shown(quality)}")
    fault = _unknown_member_fault(members, _MEASURAND_MEMBERS, "INVALID_VALUE", pointer)
    return fault or Measurand(index, key, sent_value, normalised, sent_unit, observed_at, quality)


def _value_fault(value: object, entry: CatalogueEntry | None) -> str | None:
    if isinstance(value, bool):
        kind = "boolean"
    elif isinstance(value, int | float):
        kind = "number"
        if scaled(value, (1.0, 1.0)) is None:
            return "must be a finite number"
    elif isinstance(value, str):
        kind = "text"
        if len(value) > MAX_TEXT_CHARACTERS or _UNSTORABLE.search(value):
            return f"must be at most {MAX_TEXT_CHARACTERS} characters without U+0000 and lone surrogates"
    else:
        return f"must be a boolean, a number or text, not {_shown(value)}"
    return None if entry is None else _catalogue_value_fault(value, kind, entry)


def _catalogue_value_fault(value: bool | float | str, kind: str, entry: CatalogueEntry) -> str | None:
    if kind not in entry.types:
        return f"must be {' or '.join(entry.types)}, not {kind}"
    if isinstance(value, str):
        return None if value in entry.choices else f"must be one of {', '.join(entry.choices)}, not {_shown(value)}"
    if kind == "number" and entry.minimum is not None and value < entry.minimum:
        return f"must be at least {entry.minimum:g} {entry.unit}, not {float(value):g}"
    if kind == "number" and entry.maximum is not None and value > entry.maximum:
        return f"must be at most {entry.maximum:g} {entry.unit}, not {float(value):g}"
    return None


def _unit_fault(unit: object, entry: CatalogueEntry | None) -> str | None:
    if unit is _ABSENT:
        return None
    if entry is None:
        fits = isinstance(unit, str) and len(unit) <= MAX_UNIT_CHARACTERS and not _UNSTORABLE.search(unit)
        return None if fits else f"must have a unit of at most {MAX_UNIT_CHARACTERS} characters, not {_shown(unit)}"
    if isinstance(unit, str) and unit in entry.units:
        return None
    return (
        f"must be in {', '.join(entry.units)}, not {_shown(unit)}" if entry.units else f"has no unit, but was sent {_shown(unit)}"
    )


def _normalised(value: bool | float | str, unit: str | None, entry: CatalogueEntry | None) -> bool | float | str | None:
    if isinstance(value, bool):
        return ("ON" if value else "OFF") if entry is not None and "text" in entry.types else value
    if isinstance(value, str):
        return value
    return scaled(value, entry.units[unit] if entry is not None and unit is not None else (1.0, 1.0))


def _unknown_member_fault(members: Members, known: frozenset[str], code: str, parent: str) -> Fault | None:
    for name, value in members.items():
        if name not in known and (_has_nul(name) or _has_nul(value)):
            clean = len(name) <= MAX_UNIT_CHARACTERS and not _UNSTORABLE.search(name)
            pointer = f"{parent}/{name.replace('~', '~0').replace('/', '~1')}" if clean else parent
            return Fault(code, pointer, "U+0000 can not be stored, also not in a member that is otherwise ignored")
    return None


def _has_nul(value: object) -> bool:
    waiting: list[object] = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            if "\x00" in found:
                return True
        elif isinstance(found, dict):
            waiting.extend(cast(Members, found))
            waiting.extend(cast(Members, found).values())
        elif isinstance(found, list):
            waiting.extend(cast(list[object], found))
    return False


def _shown(value: object) -> str:
    """Show what was sent without trusting it: one short line of ASCII."""
    match value:
        case None:
            return "null or nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return ascii(value) if len(value) <= 40 else f"{value[:40]!a}… ({len(value)} characters)"
        case int() | float():
            return f"{value:g}" if isinstance(value, float) or abs(value) < 10**300 else "a very large number"
        case list():
            return "a list"
        case _:
            return "an object"
