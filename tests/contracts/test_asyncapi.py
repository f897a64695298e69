"""The document of the topics names what the code uses, leads nowhere into nothing, and has the shape of AsyncAPI 3.0."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
from tests.contracts.asyncapi_document import address, document_text

from microgrid.events import EVENT_TYPES
from sensor_packet import topics
from sensor_packet.contract_files import read_contract

DOCUMENT: dict[str, Any] = json.loads(read_contract("asyncapi.json"))
ADDRESSES = {name: str(channel["address"]) for name, channel in DOCUMENT["channels"].items()}


def test_what_is_checked_in_is_what_the_code_says() -> None:
    assert read_contract("asyncapi.json").decode() == document_text(), (
        "write it anew: python -m tests.contracts.asyncapi_document contracts/asyncapi.json"
    )


def test_the_addresses_are_the_topics_that_the_code_uses() -> None:
    def filled(name: str, **values: str) -> str:
        return ADDRESSES[name].format(**values)

    assert filled("mqttPackets", gateway_id="gw", device_id="dev") == topics.mqtt_packet_topic("gw", "dev")
    assert filled("mqttDeadLetters", reason_code="NO") == topics.mqtt_dead_letter_topic("NO")
    assert filled("mqttDomainEvents", depot_id="d", event_type="E") == topics.mqtt_domain_event_topic("d", "E")
    assert ADDRESSES["kafkaPackets"] == topics.KAFKA_PACKET_TOPIC
    assert ADDRESSES["kafkaDeadLetters"] == topics.KAFKA_DEAD_LETTER_TOPIC
    assert ADDRESSES["kafkaDomainEvents"] == topics.KAFKA_DOMAIN_EVENT_TOPIC
    assert len(ADDRESSES) == 6


def test_no_wildcard_is_left_unnamed_and_each_name_is_a_parameter() -> None:
    assert address("a/+/b/+", "x", "y") == "a/{x}/b/{y}"
    for channel in DOCUMENT["channels"].values():
        assert set(re.findall(r"\{(\w+)\}", channel["address"])) == set(channel.get("parameters", {}))
        assert "+" not in channel["address"]


def references(of: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(of, dict):
        for name, value in cast("dict[str, object]", of).items():
            if name == "$ref":
                yield path, str(value)
            else:
                yield from references(value, f"{path}/{name}")
    elif isinstance(of, list):
        for index, value in enumerate(cast("list[object]", of)):
            yield from references(value, f"{path}/{index}")


@pytest.mark.parametrize(("where", "reference"), list(references(DOCUMENT)))
def test_every_reference_leads_to_something(where: str, reference: str) -> None:
    file, _, pointer = reference.partition("#")
    found: Any = json.loads(read_contract(file)) if file else DOCUMENT
    for part in pointer.split("/")[1:]:
        found = found[part]
    assert found, where


def test_every_event_type_travels_both_ways_under_its_own_schema() -> None:
    for protocol in ("mqtt", "kafka"):
        carried = DOCUMENT["channels"][f"{protocol}DomainEvents"]["messages"]
        assert set(carried) == {f"{protocol}{one}" for one in EVENT_TYPES}
        for event_type in EVENT_TYPES:
            message = DOCUMENT["components"]["messages"][f"{protocol}{event_type}"]
            assert message["payload"]["schema"] == {"$ref": f"events/{event_type}.v1.schema.json"}


def test_it_has_the_members_that_the_standard_requires() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(DOCUMENT["info"])
    assert all({"host", "protocol"} <= set(server) for server in DOCUMENT["servers"].values())
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"].removeprefix("#/channels/")
        assert {one["$ref"] for one in operation["messages"]} == {
            f"#/channels/{channel}/messages/{name}" for name in DOCUMENT["channels"][channel]["messages"]
        }
    for one in (*DOCUMENT["channels"], *DOCUMENT["operations"], *DOCUMENT["components"]["messages"]):
        assert re.fullmatch(r"[A-Za-z0-9._-]+", one)


def test_each_channel_belongs_to_one_server_and_one_operation() -> None:
    used = [operation["channel"]["$ref"].removeprefix("#/channels/") for operation in DOCUMENT["operations"].values()]
    assert sorted(used) == sorted(DOCUMENT["channels"])
    for name, channel in DOCUMENT["channels"].items():
        (server,) = channel["servers"]
        assert name.startswith(server["$ref"].removeprefix("#/servers/"))


def test_mqtt_is_at_least_once_and_never_retained_and_kafka_keeps_order_by_key() -> None:
    for name, operation in DOCUMENT["operations"].items():
        if name.startswith("mqtt"):
            assert (operation["bindings"]["mqtt"]["qos"], operation["bindings"]["mqtt"]["retain"]) == (1, False)
    for name, message in DOCUMENT["components"]["messages"].items():
        assert ("bindings" in message) == name.startswith("kafka")
    assert "device_id" in DOCUMENT["components"]["messages"]["kafkaPacket"]["bindings"]["kafka"]["key"]["description"]


def test_cloudevents_attributes_are_named_as_that_standard_names_them() -> None:
    for name, trait in DOCUMENT["components"]["messageTraits"].items():
        prefix = "ce_" if name.startswith("kafka") else ""
        headers = trait["headers"]
        required = {f"{prefix}{one}" for one in ("specversion", "id", "source", "type", "time")}
        assert required <= set(headers["required"]) <= set(headers["properties"])
        for header in headers["properties"]:
            if header != "traceparent":
                assert re.fullmatch(rf"{prefix}[a-z0-9]{{1,20}}", header)
