"""Outbox rows as messages: what the contract of the topics says, for both brokers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from tests.contracts.event_schema import validate_event
from tests.event_store.stores import NOW, event, letter

from event_relay.messages import Broker, outgoing
from event_store.dead_letters import DeadLetter, dead_letter_id
from event_store.outbox import OutboxEntry, OutboxPosition
from event_store.read import Position, StoredEvent
from microgrid.events import Event
from sensor_packet.contract_files import read_contract
from sensor_packet.packet import ClaimedIdentity
from service_runtime.tracing import parse_traceparent
from site_operations.replay import packet_of
from site_operations.replay_topic import letter_of_record

CONTRACT: dict[str, Any] = json.loads(read_contract("asyncapi.json"))
BROKERS: tuple[Broker, ...] = ("mqtt", "kafka")
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
_Validator: Any = Draft202012Validator


def of(what: Event | DeadLetter) -> OutboxEntry:
    position = OutboxPosition(7, 1)
    if isinstance(what, DeadLetter):
        return OutboxEntry(position, 0, None, what, NOW)
    return OutboxEntry(position, 0, StoredEvent(what, Position(7, 3), NOW), None, NOW)


def headers_of(what: Event | DeadLetter, broker: Broker) -> dict[str, str]:
    message = outgoing(of(what), broker)
    assert message is not None
    return {name: value.decode() for name, value in message.headers}


def faults_of(headers: dict[str, str], trait: str) -> list[str]:
    schema = CONTRACT["components"]["messageTraits"][trait]["headers"]
    return [str(fault) for fault in _Validator({**schema, "additionalProperties": False}).iter_errors(headers)]


@pytest.mark.parametrize("broker", BROKERS)
def test_an_event_travels_whole_under_its_depot_with_the_attributes_of_the_contract(broker: Broker) -> None:
    example = json.loads(read_contract("events/examples/MeasurementRecorded.json"))
    one = event(1, payload=example["payload"], metadata={"source": "mqtt", "trace_id": TRACE_ID})
    message = outgoing(of(one), broker)
    assert message is not None
    body = json.loads(message.body)
    assert validate_event(body) == []
    assert (body["event_id"], body["position"], body["payload"]) == (one.event_id, "7-3", one.payload)
    assert message.content_type == "application/json"
    headers = headers_of(one, broker)
    assert faults_of(headers, f"{broker}EventAttributes") == []
    prefix = "ce_" if broker == "kafka" else ""
    assert headers[f"{prefix}id"] == one.event_id
    assert headers[f"{prefix}source"] == "urn:depotgrid:depot:depot"
    assert headers[f"{prefix}type"] == "depotgrid.MeasurementRecorded.v1"
    schema = json.loads(read_contract("events/MeasurementRecorded.v1.schema.json"))
    assert headers[f"{prefix}dataschema"] == schema["$id"]
    trace = parse_traceparent(headers["traceparent"])
    assert trace is not None
    assert trace.trace_id == TRACE_ID


def test_where_an_event_goes() -> None:
    kafka, mqtt = outgoing(of(event(1)), "kafka"), outgoing(of(event(1)), "mqtt")
    assert kafka is not None
    assert (kafka.topic, kafka.key) == ("microgrid.domain-event.v1", b"depot")
    assert mqtt is not None
    assert (mqtt.topic, mqtt.key) == ("microgrid/v1/depot/event/MeasurementRecorded", None)


@pytest.mark.parametrize("broker", BROKERS)
def test_a_dead_letter_travels_as_it_came_with_its_facts_in_the_headers(broker: Broker) -> None:
    one = letter(
        b"\xff\x00not json",
        attempts=3,
        key=b"dev",
        partition=2,
        offset=7,
        headers={"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"},
    )
    message = outgoing(of(one), broker)
    assert message is not None
    assert (message.body, message.content_type) == (one.body, "application/octet-stream")
    headers = headers_of(one, broker)
    assert faults_of(headers, f"{broker}DeadLetterAttributes") == []
    prefix = "ce_" if broker == "kafka" else ""
    assert headers[f"{prefix}id"] == f"{one.dead_letter_id}.3"
    assert (headers[f"{prefix}origintopic"], headers[f"{prefix}originoffset"]) == ("iot/v1/gw/dev/packet", "7")
    assert headers["traceparent"] == one.headers["traceparent"]


def test_a_letter_of_a_bridged_packet_says_where_the_bridge_took_it_from_so_that_a_replay_holds_it_to_that() -> None:
    topic = "iot/v1/gw/dev/packet"
    one = letter(source="kafka", topic=topic, key=b"dev")
    one = msgspec.structs.replace(one, dead_letter_id=dead_letter_id("kafka", topic, b"dev", None, None, one.body))
    read_back = letter_of_record(one.key, one.body, headers_of(one, "kafka"))
    assert read_back is not None
    assert packet_of(read_back).claimed == ClaimedIdentity("gw", "dev")
    assert packet_of(msgspec.structs.replace(read_back, key=b"other")).claimed == ClaimedIdentity("", "")


def test_where_a_dead_letter_goes() -> None:
    kafka, mqtt = outgoing(of(letter(key=b"dev")), "kafka"), outgoing(of(letter()), "mqtt")
    assert kafka is not None
    assert (kafka.topic, kafka.key) == ("iot.sensor-packet.dead-letter.v1", b"dev")
    assert mqtt is not None
    assert mqtt.topic == "iot/v1/dead-letter/MALFORMED_JSON"


def test_a_letter_that_is_gone_has_no_message() -> None:
    assert outgoing(OutboxEntry(OutboxPosition(7, 1), 0, None, None, None), "kafka") is None


@given(
    detail=st.text(max_size=2_000), topic=st.text(max_size=200), gateway_id=st.text(max_size=80), traceparent=st.text(max_size=60)
)
def test_whatever_a_sender_put_into_a_packet_the_headers_are_as_the_contract_says_and_free_of_what_ends_a_connection(
    detail: str, topic: str, gateway_id: str, traceparent: str
) -> None:
    one = letter(detail=detail, topic=topic, gateway_id=gateway_id, headers={"traceparent": traceparent})
    headers = headers_of(one, "mqtt")
    assert faults_of(headers, "mqttDeadLetterAttributes") == []
    assert all(character.isprintable() or ord(character) > 0x9F for value in headers.values() for character in value)
    assert max(map(len, headers.values())) <= 1_000
