"""Reading times of the wire.

A time is an RFC 3339 date-time with an offset: `2026-11-20T21:00:00.250Z`, `2026-11-21T05:00:00+08:00`. `t` and `z` may be
small, as that standard allows; a space instead of the `T` is refused, and so is everything that only ISO 8601 knows (week
dates, `24:00`, missing seconds, a comma before the fraction, an offset without colon or with seconds). Digits beyond
microseconds are cut off, never rounded, so that a time can not move past the end of year 9999. Year 0, leap seconds, days that
the month does not have and times that leave the years 1 to 9999 when brought to UTC are no times here. `-00:00` (offset
unknown) is read as UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

_SHAPE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])",
    re.IGNORECASE | re.ASCII,
)
# What nearly every sender writes; a subset of the shape above that is twice as fast to tell. Later Pythons read hour 24.
_COMMON = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?!24)[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?Z", re.ASCII)
_has_shape = _SHAPE.fullmatch
_has_common_shape = _COMMON.fullmatch
_from_iso = datetime.fromisoformat


def parse_timestamp(text: str) -> datetime | None:
    """Give the time in UTC, or None where the text is not an RFC 3339 time with offset within years 1 to 9999."""
    if _has_common_shape(text) is None and _has_shape(text) is None:
        return None
    if text[-1] == "z":
        text = text[:-1] + "Z"
    try:
        moment = _from_iso(text)
        return moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
