"""The AsyncAPI 3.0 document of every topic, made from the names and event types that the code uses.

`python -m tests.contracts.asyncapi_document contracts/asyncapi.json` writes it anew; a test compares it with what is checked in.
Packets travel as plain JSON. Dead letters and domain events are CloudEvents 1.0 in binary mode: their attributes are headers
with the prefix `ce_` in Kafka and user properties without prefix in MQTT 5; extension attributes have names of small letters
and digits only, as that standard asks.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from microgrid.events import EVENT_TYPES, SCHEMA_VERSION
from sensor_packet.packet import MAX_PACKET_BYTES
from sensor_packet.topics import (
    KAFKA_BRIDGED_TOPIC_HEADER,
    KAFKA_DEAD_LETTER_TOPIC,
    KAFKA_DOMAIN_EVENT_TOPIC,
    KAFKA_PACKET_TOPIC,
    MQTT_DEAD_LETTER_FILTER,
    MQTT_DOMAIN_EVENT_FILTER,
    MQTT_PACKET_FILTER,
)

Json = dict[str, Any]
_SCHEMA_FORMAT = "application/schema+json;version=draft-2020-12"
_IDENTIFIER = {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"}
_TRACEPARENT = {"type": "string", "description": "W3C trace context; ends up in the event's metadata."}


def document() -> Json:
    """The document as JSON values."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Depotgrid topics",
            "version": "1.0.0",
            "description": "Sensor packets in; domain events and dead letters out. MQTT 5 and Kafka carry the same messages.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "mqtt": {"host": "localhost:1883", "protocol": "mqtt", "protocolVersion": "5", "description": "An MQTT 5 broker."},
            "kafka": {"host": "localhost:9092", "protocol": "kafka", "description": "A Kafka cluster."},
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages(), "messageTraits": _traits()},
    }


def document_text() -> str:
    """The document as it is checked in."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def address(topic_filter: str, *parameters: str) -> str:
    """A topic filter with its wildcards named."""
    for parameter in parameters:
        topic_filter = topic_filter.replace("+", f"{{{parameter}}}", 1)
    return topic_filter


def _ref(*path: str) -> Json:
    return {"$ref": "#/" + "/".join(path)}


def _mqtt_channel(topic_filter: str, what: str, messages: list[str], **parameters: str) -> Json:
    return {
        "address": address(topic_filter, *parameters),
        "description": what,
        "servers": [_ref("servers", "mqtt")],
        "parameters": {name: {"description": text} for name, text in parameters.items()},
        "messages": {name: _ref("components", "messages", name) for name in messages},
    }


def _kafka_channel(topic: str, what: str, messages: list[str]) -> Json:
    return {
        "address": topic,
        "description": what,
        "servers": [_ref("servers", "kafka")],
        "messages": {name: _ref("components", "messages", name) for name in messages},
        "bindings": {"kafka": {"topic": topic, "bindingVersion": "0.5.0"}},
    }


def _channels() -> Json:
    events = [f"mqtt{one}" for one in EVENT_TYPES]
    return {
        "mqttPackets": _mqtt_channel(
            MQTT_PACKET_FILTER,
            "Packets of one device. The ids of the topic and of the packet must agree.",
            ["mqttPacket"],
            gateway_id="The gateway that speaks for the device.",
            device_id="The device that the packet is about.",
        ),
        "kafkaPackets": _kafka_channel(KAFKA_PACKET_TOPIC, "Packets of all devices, in order per device.", ["kafkaPacket"]),
        "mqttDeadLetters": _mqtt_channel(
            MQTT_DEAD_LETTER_FILTER,
            "Packets that could not be applied, wholly or in part, each with its original bytes.",
            ["mqttDeadLetter"],
            reason_code="Why, as an upper-case code.",
        ),
        "kafkaDeadLetters": _kafka_channel(
            KAFKA_DEAD_LETTER_TOPIC, "Packets that could not be applied, each with its original bytes.", ["kafkaDeadLetter"]
        ),
        "mqttDomainEvents": _mqtt_channel(
            MQTT_DOMAIN_EVENT_FILTER,
            "What happened in a depot, in order, at least once; the event id tells what was seen already.",
            events,
            depot_id="The depot in which it happened.",
            event_type="The type of the event.",
        ),
        "kafkaDomainEvents": _kafka_channel(
            KAFKA_DOMAIN_EVENT_TOPIC,
            "What happened in all depots, in order per depot, at least once; the event id tells what was seen already.",
            [f"kafka{one}" for one in EVENT_TYPES],
        ),
    }


def _operations() -> Json:
    at_least_once: Json = {"mqtt": {"qos": 1, "retain": False, "bindingVersion": "0.2.0"}}
    operations: Json = {}
    for name, action, channels in (
        ("TakePackets", "receive", ("mqttPackets", "kafkaPackets")),
        ("PublishDeadLetters", "send", ("mqttDeadLetters", "kafkaDeadLetters")),
        ("PublishDomainEvents", "send", ("mqttDomainEvents", "kafkaDomainEvents")),
    ):
        for protocol, channel in zip(("mqtt", "kafka"), channels, strict=True):
            operation: Json = {
                "action": action,
                "channel": _ref("channels", channel),
                "messages": [_ref("channels", channel, "messages", message) for message in _channels()[channel]["messages"]],
            }
            if protocol == "mqtt":
                operation["bindings"] = at_least_once
            operations[f"{protocol}{name}"] = operation
    return operations


def _messages() -> Json:
    messages: Json = {}
    for protocol in ("mqtt", "kafka"):
        packet: Json = {
            "name": "SensorPacket",
            "title": "Sensor packet",
            "contentType": "application/json",
            "headers": {"type": "object", "properties": {"traceparent": _TRACEPARENT}},
            "payload": _schema("packet.schema.json"),
        }
        letter: Json = {
            "name": "DeadLetter",
            "title": "Dead letter",
            "summary": f"The packet as it came, cut at {MAX_PACKET_BYTES} bytes; the facts are in the headers.",
            "contentType": "application/octet-stream",
            "traits": [_ref("components", "messageTraits", f"{protocol}DeadLetterAttributes")],
            "payload": {"type": "string", "format": "binary"},
        }
        if protocol == "kafka":
            packet["headers"]["properties"][KAFKA_BRIDGED_TOPIC_HEADER] = {
                "type": "string",
                "description": "The MQTT topic that a bridge took the packet from; its ids must agree with key and packet, too.",
            }
            packet["bindings"] = _key({**_IDENTIFIER, "description": "The packet's device_id."})
            letter["bindings"] = _key({"type": "string", "description": "The key that the packet came with, if any."})
        messages[f"{protocol}Packet"] = packet
        messages[f"{protocol}DeadLetter"] = letter
        for event_type in EVENT_TYPES:
            event: Json = {
                "name": event_type,
                "contentType": "application/json",
                "traits": [_ref("components", "messageTraits", f"{protocol}EventAttributes")],
                "payload": _schema(f"events/{event_type}.v{SCHEMA_VERSION}.schema.json"),
            }
            if protocol == "kafka":
                event["bindings"] = _key({**_IDENTIFIER, "description": "The event's depot_id."})
            messages[f"{protocol}{event_type}"] = event
    return messages


def _schema(file: str) -> Json:
    return {"schemaFormat": _SCHEMA_FORMAT, "schema": {"$ref": file}}


def _key(schema: Json) -> Json:
    return {"kafka": {"key": schema, "bindingVersion": "0.5.0"}}


def _traits() -> Json:
    event: Json = {
        "id": {"type": "string", "description": "The event's event_id."},
        "source": {"type": "string", "description": "urn:depotgrid:depot: and the depot_id."},
        "type": {"type": "string", "description": f"depotgrid. and the event type and .v{SCHEMA_VERSION}"},
        "time": {"type": "string", "format": "date-time", "description": "The event's observed_at."},
        "dataschema": {"type": "string", "description": "The $id of the payload's schema."},
    }
    letter: Json = {
        "id": {"type": "string", "description": "The dead letter's id, a dot and the number of attempts."},
        "source": {"const": "urn:depotgrid:dead-letter"},
        "type": {"const": "depotgrid.dead-letter.v1"},
        "time": {"type": "string", "format": "date-time", "description": "When it last failed."},
        "reasoncode": {"type": "string", "description": "Why; of several, the first in order of the packet."},
        "stage": {"enum": ["DECODE", "VALIDATE", "AUTHORISE", "ROUTE", "APPLY"]},
        "detail": {"type": "string"},
        "attempts": {"type": "string", "description": "How often it failed, as a decimal number."},
        "origin": {"type": "string", "description": "By which way it came, such as mqtt or kafka."},
        "origintopic": {"type": "string", "description": "Of what a bridge brought to Kafka, the MQTT topic."},
        "receivedat": {"type": "string", "format": "date-time", "description": "When the packet came."},
        "bodylength": {
            "type": "string",
            "description": "Its bytes as it came, as a decimal number; of a longer one some are missing.",
        },
    }
    letter_where_known: Json = {
        "originpartition": {"type": "string", "description": "Kafka only, and not of what a bridge brought there."},
        "originoffset": {"type": "string", "description": "As originpartition."},
        "gatewayid": _IDENTIFIER,
        "deviceid": _IDENTIFIER,
        "depotid": _IDENTIFIER,
        "failedactions": {
            "type": "string",
            "description": "Where not the whole packet failed: pointer or pointer=ACTION of what did, separated by spaces.",
        },
    }
    traits: Json = {}
    for protocol, prefix in (("mqtt", ""), ("kafka", "ce_")):
        traits[f"{protocol}EventAttributes"] = _attributes(prefix, event, {})
        traits[f"{protocol}DeadLetterAttributes"] = _attributes(prefix, letter, letter_where_known)
    return traits


def _attributes(prefix: str, always: Json, where_known: Json) -> Json:
    every: Json = {"specversion": {"const": "1.0"}, **always}
    named = {f"{prefix}{name}": schema for name, schema in (every | where_known).items()}
    return {
        "headers": {
            "type": "object",
            "required": [f"{prefix}{name}" for name in every],
            "properties": {**named, "traceparent": _TRACEPARENT},
        }
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document_text(), encoding="utf-8")
