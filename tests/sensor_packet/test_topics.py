"""Topic names and what can be read from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor_packet import topics
from sensor_packet.identifiers import IDENTIFIER
from sensor_packet.packet import ClaimedIdentity

identifiers = st.from_regex(IDENTIFIER, fullmatch=True)


def test_topics_have_the_names_that_others_subscribe_to() -> None:
    assert topics.mqtt_packet_topic("gw-wa-01", "bba-controller-1") == "iot/v1/gw-wa-01/bba-controller-1/packet"
    assert topics.mqtt_dead_letter_topic("INVALID_VALUE") == "iot/v1/dead-letter/INVALID_VALUE"
    assert topics.mqtt_domain_event_topic("depot-1", "MicrogridProvisioned") == "microgrid/v1/depot-1/event/MicrogridProvisioned"
    assert topics.KAFKA_PACKET_TOPIC == "iot.sensor-packet.v1"
    assert topics.KAFKA_DEAD_LETTER_TOPIC == "iot.sensor-packet.dead-letter.v1"
    assert topics.KAFKA_DOMAIN_EVENT_TOPIC == "microgrid.domain-event.v1"


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        (topics.MQTT_PACKET_FILTER, topics.mqtt_packet_topic("g", "d")),
        (topics.mqtt_detour_filter("g"), topics.mqtt_detour_topic(topics.mqtt_packet_topic("g", "d"))),
        (topics.MQTT_DEAD_LETTER_FILTER, topics.mqtt_dead_letter_topic("CODE")),
        (topics.MQTT_DOMAIN_EVENT_FILTER, topics.mqtt_domain_event_topic("d", "e")),
    ],
)
def test_each_filter_matches_its_own_topics_and_no_others(pattern: str, topic: str) -> None:
    def matches(name: str) -> bool:
        levels, wanted = name.split("/"), pattern.split("/")
        return len(levels) == len(wanted) and all(want in ("+", level) for want, level in zip(wanted, levels, strict=True))

    packets = {topics.mqtt_packet_topic(gateway_id, "d") for gateway_id in ("g", "h")}
    others = {topics.mqtt_packet_topic("g", "d"), topics.mqtt_dead_letter_topic("CODE"), topics.mqtt_domain_event_topic("d", "e")}
    others |= {topics.mqtt_detour_topic(packet) for packet in packets}
    assert {name for name in others if matches(name)} == {topic}


@pytest.mark.parametrize("topic", ["iot/v1/gw/dev/packet", "iot/v1//dev ice/packet", "iot/v1/gw/" + "x" * 60_000 + "/packet"])
def test_a_detour_topic_is_no_longer_than_the_packet_topic_that_it_gives_back(topic: str) -> None:
    detour = topics.mqtt_detour_topic(topic)
    assert len(detour) == len(topic)
    assert topics.packet_topic_of_detour(detour) == topic
    with pytest.raises(ValueError, match="no packet topic"):
        topics.mqtt_detour_topic(detour)


@given(identifiers, identifiers)
def test_what_a_topic_is_made_of_is_read_back(first: str, second: str) -> None:
    assert topics.parse_mqtt_packet_topic(topics.mqtt_packet_topic(first, second)) == ClaimedIdentity(first, second)
    assert topics.parse_mqtt_dead_letter_topic(topics.mqtt_dead_letter_topic(first)) == first
    assert topics.parse_mqtt_domain_event_topic(topics.mqtt_domain_event_topic(first, second)) == (first, second)


@pytest.mark.parametrize(
    "topic",
    ["", "packet", "iot/v1/gw/dev", "iot/v2/gw/dev/packet", "iot/v1/gw/dev/packet/x", "/iot/v1/gw/dev/packet", "iot/v1/gw/packet"],
)
def test_any_other_topic_claims_nothing(topic: str) -> None:
    assert topics.parse_mqtt_packet_topic(topic) is None


def test_a_packet_topic_of_odd_levels_still_claims_them() -> None:
    assert topics.parse_mqtt_packet_topic("iot/v1//dev ice/packet") == ClaimedIdentity("", "dev ice")


@pytest.mark.parametrize("topic", ["iot/v1/dead-letter", "iot/v1/dead-letter/", "iot/v1/dead-letter/a/b"])
def test_a_dead_letter_topic_names_one_reason(topic: str) -> None:
    assert topics.parse_mqtt_dead_letter_topic(topic) is None


@pytest.mark.parametrize(
    "topic", ["microgrid/v1/d/event", "microgrid/v1//event/e", "microgrid/v1/d/event/", "microgrid/v1/d/card/e"]
)
def test_a_domain_event_topic_names_depot_and_type(topic: str) -> None:
    assert topics.parse_mqtt_domain_event_topic(topic) is None


@pytest.mark.parametrize("level", ["", "a/b", "+", "#", "a b", "x" * 65])
def test_a_text_that_could_break_a_topic_is_refused(level: str) -> None:
    with pytest.raises(ValueError, match="not usable as a topic level"):
        topics.mqtt_packet_topic(level, "d")
    with pytest.raises(ValueError, match="not usable as a topic level"):
        topics.mqtt_dead_letter_topic(level)
    with pytest.raises(ValueError, match="not usable as a topic level"):
        topics.mqtt_domain_event_topic("d", level)


@pytest.mark.parametrize(
    ("key", "bridged_topic", "claimed"),
    [
        (b"dev", None, ClaimedIdentity(None, "dev")),
        (None, None, ClaimedIdentity(None, "")),
        (b"dev", "iot/v1/gw/dev/packet", ClaimedIdentity("gw", "dev")),
        (b"dev", "iot/v1/gw/other/packet", ClaimedIdentity("", "")),
        (None, "iot/v1/gw/dev/packet", ClaimedIdentity("", "")),
        (b"dev", "somewhere/else", ClaimedIdentity("", "")),
        (b"dev", "", ClaimedIdentity("", "")),
    ],
)
def test_a_kafka_record_claims_the_device_of_its_key_and_no_other_gateway_than_a_bridge_took_it_from(
    key: bytes | None, bridged_topic: str | None, claimed: ClaimedIdentity
) -> None:
    assert topics.kafka_claimed_identity(key, bridged_topic) == claimed
