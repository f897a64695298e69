"""What an outbox row looks like as a message: CloudEvents 1.0 in binary mode, as `contracts/asyncapi.json` says.

An event's body is its whole envelope; a dead letter's body is the packet as it came, and all that is known of it stands in the
headers. Kafka's headers are prefixed `ce_`, MQTT's user properties are not. Header texts hold no control characters and no
surrogates, which CloudEvents forbids and MQTT brokers end a connection over: they become U+FFFD. A text longer than a header should
be is cut. An event that belongs to a trace carries that trace on, with its own id as the parent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from broker_sessions.outgoing import Outgoing
from event_store.dead_letters import DeadLetter
from event_store.outbox import OutboxEntry
from event_store.read import StoredEvent
from microgrid.events import utc_text
from sensor_packet.identifiers import is_identifier
from sensor_packet.topics import (
    KAFKA_DEAD_LETTER_TOPIC,
    KAFKA_DOMAIN_EVENT_TOPIC,
    mqtt_dead_letter_topic,
    mqtt_domain_event_topic,
)
from service_runtime.tracing import parse_traceparent

Broker = Literal["mqtt", "kafka"]
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef]|[\ufffe\uffff]")
_LONGEST_TEXT = 1_000
_TRACE_ID = re.compile("[0-9a-f]{32}")
_JSON = "application/json"
_BYTES = "application/octet-stream"


def outgoing(entry: OutboxEntry, broker: Broker) -> Outgoing | None:
    """The message of a row for one broker; None where there is nothing left to tell."""
    if entry.event is not None:
        return _of_event(entry.event, broker)
    if entry.letter is not None:
        return _of_letter(entry.letter, broker)
    return None


def event_document(stored: StoredEvent) -> dict[str, object]:
    """An event as it travels: the envelope with what storing it added, times in UTC."""
    event = stored.event
    return {
        "event_id": event.event_id,
        "event_type": event.event_type,
        "schema_version": event.schema_version,
        "depot_id": event.depot_id,
        "microgrid_id": event.microgrid_id,
        "subject": event.subject,
        "history_only": event.history_only,
        "observed_at": utc_text(event.observed_at),
        "sent_at": utc_text(event.sent_at),
        "recorded_at": utc_text(stored.recorded_at),
        "source_event_ref": event.source_event_ref,
        "position": stored.position.cursor(),
        "payload": event.payload,
        "metadata": event.metadata,
    }


def _of_event(stored: StoredEvent, broker: Broker) -> Outgoing:
    event = stored.event
    attributes = {
        "id": event.event_id,
        "source": f"urn:depotgrid:depot:{event.depot_id}",
        "type": f"depotgrid.{event.event_type}.v{event.schema_version}",
        "time": utc_text(event.observed_at),
        "dataschema": f"urn:depotgrid:event:{event.event_type}:{event.schema_version}",
    }
    trace_id = event.metadata.get("trace_id")
    carried = isinstance(trace_id, str) and _TRACE_ID.fullmatch(trace_id) and parse_traceparent(_child_of(trace_id, event.event_id))
    body = msgspec.json.encode(event_document(stored))
    headers = _headers(attributes, broker, carried.traceparent() if carried else None)
    if broker == "kafka":
        return Outgoing(KAFKA_DOMAIN_EVENT_TOPIC, body, headers, _JSON, event.depot_id.encode())
    return Outgoing(mqtt_domain_event_topic(event.depot_id, event.event_type), body, headers, _JSON)


def _of_letter(letter: DeadLetter, broker: Broker) -> Outgoing:
    positions = {"originpartition": letter.partition, "originoffset": letter.offset}
    # Who a packet says it is may be anything; what is no identifier names nobody.
    identities = {"gatewayid": letter.gateway_id, "deviceid": letter.device_id, "depotid": letter.depot_id}
    attributes = {
        "id": f"{letter.dead_letter_id}.{letter.attempts}",
        "source": "urn:depotgrid:dead-letter",
        "type": "depotgrid.dead-letter.v1",
        "time": utc_text(letter.last_failed_at),
        "reasoncode": letter.reason_code,
        "stage": letter.stage,
        "detail": letter.detail,
        "attempts": str(letter.attempts),
        "origin": letter.source,
        "origintopic": letter.topic,
        "receivedat": utc_text(letter.received_at),
        "bodylength": str(letter.body_length),
        **_failed_actions(letter),
        **{name: str(value) for name, value in positions.items() if value is not None},
        **{name: value for name, value in identities.items() if value is not None and is_identifier(value)},
    }
    trace = parse_traceparent(letter.headers.get("traceparent"))
    headers = _headers(attributes, broker, trace.traceparent() if trace is not None else None)
    if broker == "kafka":
        return Outgoing(KAFKA_DEAD_LETTER_TOPIC, letter.body, headers, _BYTES, letter.key)
    return Outgoing(mqtt_dead_letter_topic(letter.reason_code), letter.body, headers, _BYTES)


def _failed_actions(letter: DeadLetter) -> dict[str, str]:
    """Which actions failed, `pointer` or `pointer=ACTION` each, where it was not the whole packet and there is room to say so."""
    named = [f"{one['pointer']}={one['action']}" if one.get("action") else str(one["pointer"]) for one in letter.failed_actions]
    text = " ".join(named)
    return {"failedactions": text} if 0 < len(text) <= _LONGEST_TEXT else {}


def _headers(attributes: Mapping[str, str], broker: Broker, traceparent: str | None) -> list[tuple[str, bytes]]:
    prefix = "ce_" if broker == "kafka" else ""
    headers = [(f"{prefix}{name}", _text(value)) for name, value in {"specversion": "1.0", **attributes}.items()]
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return headers


def _text(value: str) -> bytes:
    return _FORBIDDEN.sub("\ufffd", value[:_LONGEST_TEXT]).encode()


def _child_of(trace_id: str, event_id: str) -> str:
    return f"00-{trace_id}-{event_id.replace('-', '')[:16]}-00"
