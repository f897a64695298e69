"""All packets of a run, made before the first is sent: what each says, when it is sent, and what went wrong with it.

Every device says its piece once per step, in the order of the devices' ids; then the scenario's faults have their way, one
after the other in the order in which the scenario lists them (`mischief`). What remains is numbered in the order of sending. A
`Planned` packet is still of the story: its times are seconds from the beginning and it has no id. `packet_body` makes the bytes
that go over the wire; ids come from seed, epoch, scenario, depot and the packet's `report`, so that a repeated packet has the
id of the one that it repeats.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from depot_sim.configuration import Depot
from depot_sim.pacing import Pacing
from depot_sim.projection import say
from depot_sim.scenario import Scenario
from depot_sim.state_variables import Value
from depot_sim.story import moments
from sensor_packet.topics import mqtt_packet_topic

_NAMESPACE = uuid.UUID("7d0c8a52-6f5c-5a39-9a55-1f2f0d6c3b11")


@dataclass(frozen=True, slots=True)
class Planned:
    """A packet of the story.

    `at_s` is when it is sent, `stamped_s` what it says of that, both of the story; `skew_s` are real seconds by which its clock
    is wrong. `report` numbers what is said: a repetition has the number of the original. `spoilt` is how it is made unreadable
    (a code), `fault` what befell it, `sent` false where it was dropped.
    """

    report: int
    step: int
    at_s: float
    stamped_s: float
    gateway_id: str
    device_id: str
    measurands: tuple[Mapping[str, Any], ...]
    state: Mapping[str, Value] = field(default_factory=dict[str, Value])
    skew_s: float = 0.0
    fault: str | None = None
    spoilt: str | None = None
    sent: bool = True

    @property
    def topic(self) -> str:
        """The topic of its device; also the address of what travels by Kafka or HTTP, which have none per device."""
        return mqtt_packet_topic(self.gateway_id, self.device_id)


@dataclass(frozen=True, slots=True)
class Storm:
    """At that time of the story the connection is lost and made again, so many times in a row."""

    at_s: float
    times: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Packets in the order of sending, and when the connection suffers."""

    packets: tuple[Planned, ...]
    storms: tuple[Storm, ...]


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What makes a run's packets its own."""

    scenario: str
    depot_id: str
    seed: int
    epoch: datetime

    def packet_id(self, report: int) -> str:
        """The id of a report's packets."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.scenario}/{self.depot_id}/{self.seed}/{wire_time(self.epoch)}/{report}"))


def reports(scenario: Scenario, depot: Depot, seed: int) -> list[Planned]:
    """What all devices say over the whole story, before anything goes wrong."""
    found: list[Planned] = []
    for moment in moments(scenario, seed):
        for device in depot.devices:
            said = tuple(say(device, moment.state))
            if said:
                at_s = moment.at_s
                found.append(Planned(len(found), moment.step, at_s, at_s, device.gateway_id, device.device_id, said, moment.state))
    return found


def in_order(packets: Iterable[Planned]) -> tuple[Planned, ...]:
    """Packets in the order of sending; what is sent at the same time keeps its order."""
    return tuple(sorted(packets, key=lambda packet: packet.at_s))


def packet_body(packet: Planned, identity: RunIdentity, pacing: Pacing, held_s: float = 0.0) -> bytes:
    """The bytes of a packet as it goes over the wire, `held_s` later than planned; spoilt ones are wrong as their code says."""
    sent_at = identity.epoch + timedelta(seconds=pacing.real_s(packet.stamped_s) + packet.skew_s + held_s)
    document: dict[str, Any] = {
        "schema_version": "1.0",
        "packet_id": identity.packet_id(packet.report),
        "gateway_id": packet.gateway_id,
        "device_id": packet.device_id,
        "sent_at": wire_time(sent_at),
        "measurands": list(packet.measurands),
    }
    if packet.spoilt is None:
        return msgspec.json.encode(document)
    return spoilt_body(document, packet.spoilt, sent_at)


def spoilt_body(document: dict[str, Any], code: str, sent_at: datetime) -> bytes:
    """The bytes of a packet that the product must refuse with that code."""
    one: Any = document["measurands"][0]
    match code:
        case "MALFORMED_JSON":
            return msgspec.json.encode(document)[:-2]
        case "UNSUPPORTED_SCHEMA_VERSION":
            document["schema_version"] = "2.0"
        case "INVALID_PACKET":
            document["measurands"] = []
        case "INVALID_TIMESTAMP":
            document["sent_at"] = "yesterday"
        case "CLOCK_SKEW":
            document["sent_at"] = wire_time(sent_at + timedelta(hours=1))
        case "DUPLICATE_MEASURAND":
            document["measurands"] = [one, one]
        case "INVALID_VALUE":
            document["measurands"] = [{"key": "SOC", "value": 140.0, "unit": "%"}]
        case "INVALID_UNIT":
            document["measurands"] = [{"key": "SOC", "value": 50.0, "unit": "V"}]
        case _:
            pass  # UNKNOWN_DEVICE is a device that nobody configured: nothing is wrong with the packet itself
    return msgspec.json.encode(document)


def wire_time(moment: datetime) -> str:
    """A time as it stands in packets: UTC, milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
