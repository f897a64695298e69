"""What a stored report tells of itself: who said it, what was sent, when it reached us, and the rule that found its target.

Payloads and metadata are JSON, written by this version or by an older one, so each part is taken for what it is found to be:
of another type than expected counts as absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from microgrid.events import Event

Value = bool | float | str
"""A value as a device sends it."""


@dataclass(frozen=True, slots=True)
class Source:
    """Who said so."""

    device_id: str | None
    gateway_id: str | None


@dataclass(frozen=True, slots=True)
class ReportDetail:
    """How a report came about: what was sent, and the rule that found its target."""

    raw_value: Value | None
    raw_unit: str | None
    measurand: str | None
    quality: str | None
    rule: str | None
    candidates: tuple[str, ...]
    control_point_id: str | None
    bound: bool


def received_at(event: Event) -> datetime | None:
    """When a report reached us, None for an event that nobody sent."""
    text = event.metadata.get("received_at")
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo is not None else None


def source_of(event: Event) -> Source:
    """Which device and gateway an event speaks for."""
    return Source(text_or_none(event.payload.get("device_id")), text_or_none(event.payload.get("gateway_id")))


def report_detail(event: Event, *, bound: bool) -> ReportDetail:
    """What a report's event keeps of how it came about."""
    payload = event.payload
    return ReportDetail(
        raw_value=value_or_none(payload.get("raw_value")),
        raw_unit=text_or_none(payload.get("raw_unit")),
        measurand=text_or_none(payload.get("measurand")),
        quality=text_or_none(payload.get("quality")),
        rule=text_or_none(payload.get("rule")),
        candidates=tuple(str(one) for one in cast("Sequence[object]", payload.get("candidates") or ())),
        control_point_id=text_or_none(payload.get("control_point_id")),
        bound=bound,
    )


def text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def number_or_none(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def value_or_none(value: object) -> Value | None:
    return value if isinstance(value, bool | int | float | str) else None
