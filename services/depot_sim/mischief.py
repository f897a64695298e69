"""What can go wrong between a device and the product, done to a list of packets.

| kind | what becomes of the packets sent in its window |
|---|---|
| `duplicates` | the share `rate` is sent twice, the second right after the first, under the same id |
| `late` | the share `rate` is sent `by` later than it says |
| `out_of_order` | the share `rate` changes places with the next packet of its device |
| `dropped` | the share `rate` is never sent |
| `frozen` | all repeat the values of their device's first packet in the window, under their own times |
| `clock_skew` | the share `rate` says that it was sent `by` later (with a minus: earlier) than it was, in real time |
| `poison` | after the share `rate` follows one that must be refused; the codes take turns |
| `reconnect_storm` | at its beginning the connection is lost and made again `times` times |

Whether a packet is hit comes from the seed, the fault's place in the scenario and the packet's report, and from nothing else:
taking a fault away does not move what another one hits. A poisoned packet is a report of its own and never one of a device's
own story.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from depot_sim.scenario import Fault, Scenario
from depot_sim.schedule import Plan, Planned, Storm, in_order

POISONS = (
    "MALFORMED_JSON",
    "UNSUPPORTED_SCHEMA_VERSION",
    "INVALID_PACKET",
    "INVALID_TIMESTAMP",
    "CLOCK_SKEW",
    "DUPLICATE_MEASURAND",
    "INVALID_VALUE",
    "INVALID_UNIT",
    "UNKNOWN_DEVICE",
)
_FIRST_POISON = 1_000_000
"""Poisoned packets are numbered from here, so that they never share a report with what devices say."""


def with_faults(scenario: Scenario, said: Sequence[Planned], seed: int) -> Plan:
    """The packets after all faults of the scenario, in the order of sending."""
    packets = list(said)
    storms: list[Storm] = []
    for number, fault in enumerate(scenario.faults):
        if fault.kind == "reconnect_storm":
            storms.append(Storm(fault.window.from_s, fault.times))
            continue
        hit = [packet for packet in packets if _is_hit(fault, packet, f"{seed}/{number}")]
        packets = list(in_order(_befallen(fault, packets, {id(packet) for packet in hit}, number)))
    return Plan(tuple(packets), tuple(sorted(storms, key=lambda storm: storm.at_s)))


def _is_hit(fault: Fault, packet: Planned, salt: str) -> bool:
    if not packet.sent or packet.spoilt is not None or not fault.window.holds(packet.at_s):
        return False
    return random.Random(f"{salt}/{packet.report}").random() < fault.rate


def _befallen(fault: Fault, packets: list[Planned], hit: set[int], number: int) -> list[Planned]:
    match fault.kind:
        case "late":
            return [replace(one, at_s=one.at_s + fault.by_s, fault="late") if id(one) in hit else one for one in packets]
        case "dropped":
            return [replace(one, sent=False, fault="dropped") if id(one) in hit else one for one in packets]
        case "clock_skew":
            return [replace(one, skew_s=fault.by_s, fault="clock_skew") if id(one) in hit else one for one in packets]
        case "frozen":
            return _frozen(packets, hit)
        case "out_of_order":
            return _swapped(packets, hit)
        case _:
            return _with_more(fault, packets, hit, number)


def _frozen(packets: list[Planned], hit: set[int]) -> list[Planned]:
    first: dict[str, Planned] = {}
    found: list[Planned] = []
    for one in packets:
        if id(one) in hit:
            kept = first.setdefault(one.device_id, one)
            found.append(replace(one, measurands=kept.measurands, fault="frozen"))
        else:
            found.append(one)
    return found


def _swapped(packets: list[Planned], hit: set[int]) -> list[Planned]:
    found = list(packets)
    taken: set[int] = set()
    for index, one in enumerate(packets):
        if id(one) not in hit or index in taken:
            continue
        after = next((n for n in range(index + 1, len(packets)) if packets[n].device_id == one.device_id and packets[n].sent), None)
        if after is None or after in taken:
            continue
        other = packets[after]
        found[index] = replace(other, at_s=one.at_s if other.at_s < one.at_s else other.at_s, fault="out_of_order")
        found[after] = replace(one, at_s=other.at_s, fault="out_of_order")
        taken |= {index, after}
    return found


def _with_more(fault: Fault, packets: list[Planned], hit: set[int], number: int) -> list[Planned]:
    found: list[Planned] = []
    codes = fault.codes or POISONS
    turn = 0
    for one in packets:
        found.append(one)
        if id(one) not in hit:
            continue
        if fault.kind == "duplicates":
            found.append(replace(one, fault="duplicate"))
            continue
        code = codes[turn % len(codes)]
        report = _FIRST_POISON * (number + 1) + turn
        device_id = f"{one.device_id[:58]}.ghost" if code == "UNKNOWN_DEVICE" else one.device_id
        found.append(replace(one, report=report, device_id=device_id, spoilt=code, fault="poison"))
        turn += 1
    return found
