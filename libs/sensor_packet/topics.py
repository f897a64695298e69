"""The names under which packets, dead letters and domain events travel, and how to read them back."""

from __future__ import annotations

from sensor_packet.identifiers import is_identifier
from sensor_packet.packet import ClaimedIdentity

MQTT_PACKET_FILTER = "iot/v1/+/+/packet"
MQTT_DEAD_LETTER_FILTER = "iot/v1/dead-letter/+"
MQTT_DOMAIN_EVENT_FILTER = "microgrid/v1/+/event/+"
KAFKA_PACKET_TOPIC = "iot.sensor-packet.v1"
KAFKA_DEAD_LETTER_TOPIC = "iot.sensor-packet.dead-letter.v1"
KAFKA_DOMAIN_EVENT_TOPIC = "microgrid.domain-event.v1"
KAFKA_BRIDGED_TOPIC_HEADER = "depotgrid-mqtt-topic"


def mqtt_packet_topic(gateway_id: str, device_id: str) -> str:
    """Give the topic on which a gateway publishes a device's packets; ValueError where an id is no identifier."""
    return f"iot/v1/{_level(gateway_id)}/{_level(device_id)}/packet"


def parse_mqtt_packet_topic(topic: str) -> ClaimedIdentity | None:
    """Give what a packet topic claims, or None where it is not one.

    The levels are taken as they are, even where they are no identifiers: the packet on it then fails the comparison and is kept as
    a dead letter, where a None here would leave it without a reason.
    """
    match topic.split("/"):
        case ["iot", "v1", gateway_id, device_id, "packet"]:
            return ClaimedIdentity(gateway_id, device_id)
        case _:
            return None


def mqtt_detour_topic(packet_topic: str) -> str:
    """Give the topic on which what came on a packet topic waits, of the same length; ValueError where it is no packet topic."""
    if parse_mqtt_packet_topic(packet_topic) is None:
        raise ValueError(f"no packet topic: {packet_topic!r}")
    return packet_topic.removesuffix("packet") + "detour"


def mqtt_detour_filter(gateway_id: str) -> str:
    """Give the filter of all that waits of one gateway; ValueError where the id is no identifier."""
    return f"iot/v1/{_level(gateway_id)}/+/detour"


def packet_topic_of_detour(detour_topic: str) -> str:
    """Give the packet topic that a message on the detour came on before."""
    return detour_topic.removesuffix("detour") + "packet"


def kafka_claimed_identity(key: bytes | None, bridged_topic: str | None = None) -> ClaimedIdentity:
    """Give what a packet's Kafka record claims: by its key a device, and no gateway. No key claims a device without a name.

    `bridged_topic` is the value of the header that a bridge from MQTT adds: the topic that the broker let a gateway publish on.
    Then that gateway is claimed, too, as if the packet had come over MQTT. It can only narrow what a record may say: a topic that
    is none, or of another device than the key, claims nobody.
    """
    device_id = "" if key is None else key.decode("utf-8", "replace")
    if bridged_topic is None:
        return ClaimedIdentity(None, device_id)
    claimed = parse_mqtt_packet_topic(bridged_topic)
    return claimed if claimed is not None and claimed.device_id == device_id else ClaimedIdentity("", "")


def mqtt_dead_letter_topic(reason_code: str) -> str:
    """Give the topic of dead letters with that reason code; ValueError where the code can not be a topic level."""
    return f"iot/v1/dead-letter/{_level(reason_code)}"


def parse_mqtt_dead_letter_topic(topic: str) -> str | None:
    """Give the reason code that a dead-letter topic names, or None where it is not one."""
    match topic.split("/"):
        case ["iot", "v1", "dead-letter", reason_code] if reason_code:
            return reason_code
        case _:
            return None


def mqtt_domain_event_topic(depot_id: str, event_type: str) -> str:
    """Give the topic of a depot's domain events of one type; ValueError where one of them can not be a topic level."""
    return f"microgrid/v1/{_level(depot_id)}/event/{_level(event_type)}"


def parse_mqtt_domain_event_topic(topic: str) -> tuple[str, str] | None:
    """Give (depot id, event type) of a domain-event topic, or None where it is not one."""
    match topic.split("/"):
        case ["microgrid", "v1", depot_id, "event", event_type] if depot_id and event_type:
            return depot_id, event_type
        case _:
            return None


def _level(text: str) -> str:
    if not is_identifier(text):
        raise ValueError(f"not usable as a topic level: {text!r}")
    return text
