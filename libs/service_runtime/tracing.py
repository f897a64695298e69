"""W3C trace context in and out, and a tracer provider where someone listens.

A `traceparent` is `00-{32 hex trace id}-{16 hex parent id}-{2 hex flags}`, neither id all zero; of a later version only these
first four fields are read. Anything else counts as absent: a broken header must not cost a packet.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


@dataclass(frozen=True)
class TraceContext:
    """Where a packet or request belongs: lower-case hex ids, and whether its sender records the trace."""

    trace_id: str
    parent_id: str
    sampled: bool

    def traceparent(self) -> str:
        """The header value, version 00."""
        return f"00-{self.trace_id}-{self.parent_id}-{'01' if self.sampled else '00'}"


def parse_traceparent(value: str | None) -> TraceContext | None:
    """The trace context in a header value; None for none or a broken one."""
    found = _TRACEPARENT.fullmatch(value.strip()) if value else None
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    return TraceContext(trace_id, parent_id, bool(int(flags, 16) & 1))


def new_trace(random_bytes: bytes) -> TraceContext:
    """A context of its own from 24 random bytes, not all zero in either part."""
    if len(random_bytes) != 24 or not any(random_bytes[:16]) or not any(random_bytes[16:]):
        raise ValueError("24 random bytes are needed, neither the first 16 nor the last 8 all zero")
    return TraceContext(random_bytes[:16].hex(), random_bytes[16:].hex(), sampled=False)


def configure_tracing(service: str) -> bool:
    """Export spans over OTLP when its exporter is installed beside us (its own variables say where to); tells whether it is.

    Without one no spans are recorded and tracing costs nothing.
    """
    try:
        exporter: Any = importlib.import_module(_EXPORTER)
    except ImportError:
        return False
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(exporter.OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return True
