"""Times of the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor_packet.timestamps import parse_timestamp


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20T21:00:00Z", datetime(2026, 11, 20, 21, tzinfo=UTC)),
        ("2026-11-20t21:00:00z", datetime(2026, 11, 20, 21, tzinfo=UTC)),
        ("2026-11-20T21:00:00.5Z", datetime(2026, 11, 20, 21, 0, 0, 500000, tzinfo=UTC)),
        ("2026-11-20T21:00:00.1234569Z", datetime(2026, 11, 20, 21, 0, 0, 123456, tzinfo=UTC)),
        ("2026-11-20T21:00:00+00:00", datetime(2026, 11, 20, 21, tzinfo=UTC)),
        ("2026-11-20T21:00:00-00:00", datetime(2026, 11, 20, 21, tzinfo=UTC)),
        ("2026-11-21T05:00:00+08:00", datetime(2026, 11, 20, 21, tzinfo=UTC)),
        ("2026-11-20T17:30:00-03:30", datetime(2026, 11, 20, 21, tzinfo=UTC)),
        ("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.9999999999Z", datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    ],
)
def test_a_time_with_offset_is_read_in_utc(text: str, expected: datetime) -> None:
    found = parse_timestamp(text)
    assert found == expected
    assert found is not None
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-20",
        "2026-11-20T21:00:00",
        "2026-11-20 21:00:00Z",
        "2026-11-20_21:00:00Z",
        "2026-11-20T21:00Z",
        "2026-11-20T21:00:00,5Z",
        "2026-11-20T21:00:00.Z",
        "2026-11-20T21:00:00 Z",
        " 2026-11-20T21:00:00Z",
        "2026-11-20T21:00:00Z\n",
        "2026-11-20T21:00:00Z\x00",
        "2026-11-20T21:00:00+0000",
        "2026-11-20T21:00:00+00",
        "2026-11-20T21:00:00+24:00",
        "2026-11-20T21:00:00+00:60",
        "2026-11-20T21:00:00+00:00:30",
        "20261120T210000Z",
        "2026-W47-5T21:00:00Z",
        "2026-324T21:00:00Z",
        "2026-11-20T24:00:00Z",
        "2026-11-20T24:00:00+00:00",
        "2026-11-20T21:60:00Z",
        "2026-11-20T21:00:60Z",
        "2016-12-31T23:59:60Z",
        "2026-02-29T00:00:00Z",
        "2026-00-10T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-11-31T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "12026-11-20T21:00:00Z",
        "0001-01-01T00:00:00+23:00",
        "9999-12-31T23:59:59-00:01",
        "２026-11-20T21:00:00Z",
        "2026-11-20T21:00:00.٣Z",
    ],
)
def test_what_is_no_rfc_3339_time_of_years_1_to_9999_is_refused(text: str) -> None:
    assert parse_timestamp(text) is None


@given(
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31)),  # noqa: DTZ001 - the offset is drawn beside it
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_every_time_that_can_be_written_is_read_back(naive: datetime, offset_minutes: int) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    assert parse_timestamp(moment.isoformat()) == moment
