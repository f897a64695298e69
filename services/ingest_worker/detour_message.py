"""What a packet looks like while it waits in the broker, and what it is again when it comes back.

It has its body and its user properties, and two of ours: its place on the way, and when it was received from the gateway. User
properties beyond a bound are left out but for the trace, as where packets go to Kafka: with ours they might be too large for the
broker. A message with a place and without a time is a marker. One without a place is none of ours; it is taken as a packet received
now.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from broker_sessions.outgoing import Outgoing
from sensor_packet.packet import ClaimedIdentity
from sensor_packet.topics import mqtt_detour_filter, mqtt_detour_topic, packet_topic_of_detour, parse_mqtt_packet_topic
from service_runtime.tracing import parse_traceparent
from site_operations.ingest import RawPacket

_PLACE = "depotgrid-place"
_RECEIVED_AT = "depotgrid-received-at"
_LARGEST_HEADERS = 8 * 1024
_TRACE_HEADERS = ("traceparent", "tracestate")


def on_detour(packet: RawPacket, place: int) -> Outgoing:
    """The message that a packet becomes."""
    headers = [(name, value.encode()) for name, value in packet.headers.items() if name not in (_PLACE, _RECEIVED_AT)]
    if sum([len(name) + len(value) for name, value in headers]) > _LARGEST_HEADERS:
        headers = [(name, value) for name, value in headers if name in _TRACE_HEADERS]
    ours = [(_PLACE, str(place).encode()), (_RECEIVED_AT, packet.received_at.isoformat().encode())]
    return Outgoing(mqtt_detour_topic(packet.topic), packet.body, [*headers, *ours])


def marker(gateway_id: str, place: int) -> Outgoing:
    """An empty message that goes round behind all of a gateway's packets."""
    return Outgoing(mqtt_detour_filter(gateway_id).replace("+", ""), b"", [(_PLACE, str(place).encode())])


def is_marker(headers: Mapping[str, str]) -> bool:
    """Whether a message that came back is a marker."""
    return _PLACE in headers and _RECEIVED_AT not in headers


def place_of(headers: Mapping[str, str]) -> int | None:
    """The place of a message that came back; None where it has none that we gave it."""
    text = headers.get(_PLACE, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None


def as_it_came(topic: str, body: bytes, headers: Mapping[str, str], now: datetime) -> RawPacket:
    """The packet that a message was before; no later than `now`, whatever the message says."""
    try:
        received_at = min(datetime.fromisoformat(headers.get(_RECEIVED_AT, "")), now)
    except (ValueError, TypeError):
        received_at = now
    theirs = {name: value for name, value in headers.items() if name not in (_PLACE, _RECEIVED_AT)}
    trace = parse_traceparent(theirs.get("traceparent")) if theirs else None
    packet_topic = packet_topic_of_detour(topic)
    return RawPacket(
        body,
        "mqtt",
        packet_topic,
        parse_mqtt_packet_topic(packet_topic) or ClaimedIdentity("", ""),
        received_at,
        headers=theirs,
        trace_id=trace.trace_id if trace is not None else None,
    )
