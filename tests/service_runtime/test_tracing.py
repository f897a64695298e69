"""Trace context: what is taken, what counts as absent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_runtime.tracing import TraceContext, configure_tracing, new_trace, parse_traceparent

_TRACE, _PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (f"00-{_TRACE}-{_PARENT}-01", TraceContext(_TRACE, _PARENT, sampled=True)),
        (f"00-{_TRACE}-{_PARENT}-00", TraceContext(_TRACE, _PARENT, sampled=False)),
        (f" 00-{_TRACE}-{_PARENT}-03 ", TraceContext(_TRACE, _PARENT, sampled=True)),
        (f"cc-{_TRACE}-{_PARENT}-01-later", TraceContext(_TRACE, _PARENT, sampled=True)),
        (f"00-{_TRACE}-{_PARENT}-01-more", None),
        (f"ff-{_TRACE}-{_PARENT}-01", None),
        (f"00-{'0' * 32}-{_PARENT}-01", None),
        (f"00-{_TRACE}-{'0' * 16}-01", None),
        (f"00-{_TRACE.upper()}-{_PARENT}-01", None),
        ("garbage", None),
        ("", None),
        (None, None),
    ],
)
def test_a_header_gives_its_context_or_counts_as_absent(header: str | None, taken: TraceContext | None) -> None:
    assert parse_traceparent(header) == taken


@given(st.binary(min_size=24, max_size=24).filter(lambda drawn: any(drawn[:16]) and any(drawn[16:])))
def test_a_new_trace_is_read_back_as_itself(drawn: bytes) -> None:
    assert parse_traceparent(new_trace(drawn).traceparent()) == new_trace(drawn)


@pytest.mark.parametrize("drawn", [b"\0" * 24, b"\1" * 23, b"\0" * 16 + b"\1" * 8, b"\1" * 16 + b"\0" * 8])
def test_bytes_that_make_no_valid_ids_are_refused(drawn: bytes) -> None:
    with pytest.raises(ValueError, match="24 random bytes"):
        new_trace(drawn)


def test_without_an_exporter_nothing_is_exported() -> None:
    assert configure_tracing("ingest") is False
