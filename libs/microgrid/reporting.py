"""What becomes of a packet: each action of each measurand ends in exactly one step.

The steps stand in the order of the packet's measurands and, within one, of `sensor_action_id`. A step is an event that is to be
stored (`Reported`), a refusal (`Refused`), a measurand that nobody bound (`Ignored`), or a `CapacityStep`, which needs the
controller's health to be decided (`microgrid.circuit_capacity`). The actions are independent: a bad one never holds back its
neighbours. Whether a report was already stored (`DUPLICATE`) is known only to the event store.

A report of quality `BAD`, and a battery mode that says nothing of the capability, are kept as history only.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from microgrid import events
from microgrid.events import Event
from microgrid.routing import (
    FAIL_SAFE_CAPACITY,
    HEARTBEAT_STATUS,
    REJECTED,
    DevicePlan,
    PlannedAction,
    Target,
    Unroutable,
)
from microgrid.site_model import (
    RECORD_MEASUREMENT,
    UPDATE_MICROGRID_STATE,
    UPDATE_POWER_SOURCE_LOAD,
    UPDATE_POWER_SOURCE_STATE,
)
from sensor_packet.battery_mode import MODES, capability_from_mode
from sensor_packet.catalogue import CATALOGUE, convert
from sensor_packet.packet import Measurand, Packet, RefusedMeasurand

APPLIED = "APPLIED"
RECORDED = "RECORDED"
DUPLICATE = "DUPLICATE"
IGNORED = "IGNORED"

POWER_STATES = frozenset({"ON", "OFF", "STARTING", "STOPPING", "FAULT"})
_CIRCUIT_RELEVANT = (HEARTBEAT_STATUS, FAIL_SAFE_CAPACITY)


class Reported(msgspec.Struct, frozen=True, gc=False):
    """An event to store. `outcome` is `APPLIED` or `RECORDED`, unless the store finds that it has the event already."""

    measurand: str
    action: str
    outcome: str
    event: Event
    sensor_action_id: str | None


class Refused(msgspec.Struct, frozen=True, gc=False):
    """An action that can not be done. `outcome` is `REMEDIATION` or `REJECTED`; `action` is None for a bad measurand."""

    pointer: str
    measurand: str | None
    action: str | None
    outcome: str
    code: str
    detail: str
    candidates: tuple[str, ...]
    sensor_action_id: str | None


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """A valid measurand that no enabled action names."""

    measurand: str


# Most measurands of most packets are bound to nothing, and what is known of that is its name.
_IGNORED = {key: Ignored(key) for key in CATALOGUE}


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where a packet's reports come from: what every event of the packet has in common."""

    packet_id: str
    gateway_id: str
    device_id: str
    depot_id: str
    microgrid_id: str | None
    sent_at: datetime
    received_at: datetime
    metadata: Mapping[str, object]


class CapacityStep(msgspec.Struct, frozen=True, gc=False):
    """What one packet says that matters for the charging capacity of one circuit; decided with the controller's health."""

    action: PlannedAction
    origin: Origin
    capacity: Measurand | None
    heartbeat: Measurand | None
    fail_safe: Measurand | None


Step = Reported | Refused | Ignored | CapacityStep


def report(packet: Packet, plan: DevicePlan, received_at: datetime, metadata: Mapping[str, object]) -> list[Step]:
    """Decide every action of a packet of a known, enabled device, in order. `metadata` goes into each event."""
    origin = Origin(
        packet.packet_id,
        packet.gateway_id,
        packet.device_id,
        plan.depot_id,
        plan.microgrid_id,
        packet.sent_at,
        received_at,
        metadata,
    )
    steps: list[Step] = []
    actions_of = plan.actions.get
    for measurand in packet.measurands:
        actions = actions_of(measurand.key)
        if actions is None:
            steps.append(_IGNORED.get(measurand.key) or Ignored(measurand.key))
            continue
        for action in actions:
            steps.append(_apply(measurand, action, origin, packet))  # noqa: PERF401 - most have one, and that is quicker so
    if plan.capacity_actions:
        _add_health_only_steps(steps, packet, plan, origin)
    if packet.refused:
        return _in_packet_order(steps, packet)
    return steps


def refused_measurand(refused: RefusedMeasurand) -> Refused:
    """The step of a measurand that broke a rule of its own."""
    return Refused(refused.pointer, refused.key, None, REJECTED, refused.code, refused.detail, (), None)


def _apply(measurand: Measurand, action: PlannedAction, origin: Origin, packet: Packet) -> Step:
    target = action.target
    if isinstance(target, Unroutable):
        detail = f"{action.action} of {measurand.key} has no single target"
        if target.candidates:
            detail += ": " + ", ".join(target.candidates)
        return Refused(
            f"/measurands/{measurand.index}",
            measurand.key,
            action.action,
            target.outcome,
            target.code,
            detail,
            target.candidates,
            action.sensor_action_id,
        )
    kind = action.action
    if kind == UPDATE_MICROGRID_STATE:
        return _report_capability(measurand, action, target, origin)
    if kind == RECORD_MEASUREMENT:
        return _record_measurement(measurand, action, target, origin)
    if kind == UPDATE_POWER_SOURCE_LOAD:
        return _report_load(measurand, action, target, origin)
    if kind == UPDATE_POWER_SOURCE_STATE:
        return _report_state(measurand, action, target, origin)
    capacity_kw = value_in_kw(measurand, action.scale)
    if capacity_kw is None or capacity_kw < 0:
        return _not_applicable(measurand, action, "a charging capacity is a number in W, kW or MW and not below 0")
    return CapacityStep(action, origin, measurand, _find(packet, HEARTBEAT_STATUS), _find(packet, FAIL_SAFE_CAPACITY))


def _report_capability(measurand: Measurand, action: PlannedAction, target: Target, origin: Origin) -> Step:
    capability = action.capability or ""
    value = measurand.normalised
    if isinstance(value, bool):
        is_on: bool | None = value
    elif measurand.key == "BESS_OPERATIONAL_MODE" and isinstance(value, str) and value in MODES:
        is_on = capability_from_mode(value, capability)
    else:
        return _not_applicable(measurand, action, f"{capability} is fed by a boolean or a battery operational mode")
    payload = report_payload(measurand, target, origin)
    payload["capability"] = capability
    payload["node_id"] = action.node_id
    payload["control_point_id"] = action.control_point_id
    payload["operational_status"] = None if is_on is None else "ON" if is_on else "OFF"
    return _reported(events.CAPABILITY_STATUS_REPORTED, measurand, action, origin, payload, history_only=is_on is None)


def _report_state(measurand: Measurand, action: PlannedAction, target: Target, origin: Origin) -> Step:
    value = measurand.normalised
    if isinstance(value, bool):
        value = "ON" if value else "OFF"
    if not isinstance(value, str) or value not in POWER_STATES:
        return _not_applicable(measurand, action, "a power source's state is ON, OFF, STARTING, STOPPING, FAULT, true or false")
    payload = report_payload(measurand, target, origin)
    payload["power_source_id"] = target.target_id
    payload["state"] = value
    return _reported(events.POWER_SOURCE_STATE_REPORTED, measurand, action, origin, payload)


def _report_load(measurand: Measurand, action: PlannedAction, target: Target, origin: Origin) -> Step:
    load_kw = value_in_kw(measurand, action.scale)
    if load_kw is None:
        return _not_applicable(measurand, action, "a power source's load is a number in W, kW or MW")
    payload = report_payload(measurand, target, origin)
    payload["power_source_id"] = target.target_id
    payload["load_kw"] = load_kw
    return _reported(events.POWER_SOURCE_LOAD_REPORTED, measurand, action, origin, payload)


def _record_measurement(measurand: Measurand, action: PlannedAction, target: Target, origin: Origin) -> Step:
    value = measurand.normalised
    if action.scale is not None and not isinstance(value, bool | str):
        value = value * action.scale
        if not abs(value) < float("inf"):
            return _not_applicable(measurand, action, "the scaled value is not finite")
    entry = CATALOGUE.get(measurand.key)
    payload = report_payload(measurand, target, origin)
    payload["value"] = value
    payload["unit"] = entry.unit if entry is not None else measurand.unit
    return _reported(events.MEASUREMENT_RECORDED, measurand, action, origin, payload)


def value_in_kw(measurand: Measurand, scale: float | None) -> float | None:
    """A power in kW, scaled; None where the value is not a power (text, boolean, another unit, not finite)."""
    value = measurand.normalised
    if isinstance(value, bool | str):
        return None
    entry = CATALOGUE.get(measurand.key)
    if entry is not None and entry.unit != "kW":
        return None
    # What the catalogue knows is in its unit already.
    in_kw = convert(value, measurand.unit if entry is None else None, "kW")
    if in_kw is None or scale is None:
        return in_kw
    scaled = in_kw * scale
    return scaled if abs(scaled) < float("inf") else None


def report_payload(measurand: Measurand, target: Target, origin: Origin) -> dict[str, object]:
    """What the payload of every report holds: who said what, and the rule that found the target."""
    payload: dict[str, object] = {
        "device_id": origin.device_id,
        "gateway_id": origin.gateway_id,
        "measurand": measurand.key,
        "raw_value": measurand.value,
        "quality": measurand.quality,
        "rule": target.rule,
        "candidates": target.candidates,
    }
    if measurand.unit is not None:
        payload["raw_unit"] = measurand.unit
    return payload


def report_event(
    event_type: str,
    measurand: Measurand,
    action: PlannedAction,
    origin: Origin,
    payload: Mapping[str, object],
    *,
    history_only: bool,
) -> Event:
    """The event of a report, under the identity that the report gives it."""
    return Event(
        events.report_event_id(
            event_type,
            origin.device_id,
            origin.packet_id,
            measurand.key,
            action.selectors,
            measurand.observed_at,
            measurand.value,
            measurand.unit,
        ),
        event_type,
        origin.depot_id,
        origin.microgrid_id,
        action.subject,
        history_only,
        measurand.observed_at,
        origin.sent_at,
        origin.packet_id,
        payload,
        origin.metadata,
    )


def _reported(
    event_type: str,
    measurand: Measurand,
    action: PlannedAction,
    origin: Origin,
    payload: Mapping[str, object],
    *,
    history_only: bool = False,
) -> Reported:
    history_only = history_only or measurand.quality == "BAD"
    return Reported(
        measurand.key,
        action.action,
        RECORDED if history_only else APPLIED,
        report_event(event_type, measurand, action, origin, payload, history_only=history_only),
        action.sensor_action_id,
    )


def _not_applicable(measurand: Measurand, action: PlannedAction, why: str) -> Refused:
    return Refused(
        f"/measurands/{measurand.index}/value",
        measurand.key,
        action.action,
        REJECTED,
        "VALUE_NOT_APPLICABLE",
        why,
        (),
        action.sensor_action_id,
    )


def _add_health_only_steps(steps: list[Step], packet: Packet, plan: DevicePlan, origin: Origin) -> None:
    """A heartbeat or a fail-safe value acts also in a packet without a capacity."""
    present = {measurand.key for measurand in packet.measurands}
    if present.isdisjoint(_CIRCUIT_RELEVANT):
        return
    heartbeat, fail_safe = _find(packet, HEARTBEAT_STATUS), _find(packet, FAIL_SAFE_CAPACITY)
    # A capacity that was refused must not silence the heartbeat beside it, so it is the step that counts, not the measurand.
    decided = {step.action.sensor_action_id for step in steps if isinstance(step, CapacityStep)}
    steps.extend(
        CapacityStep(action, origin, None, heartbeat, fail_safe)
        for action in plan.capacity_actions
        if action.sensor_action_id not in decided and isinstance(action.target, Target)
    )


def _find(packet: Packet, key: str) -> Measurand | None:
    for measurand in packet.measurands:
        if measurand.key == key:
            return measurand
    return None


def _in_packet_order(steps: list[Step], packet: Packet) -> list[Step]:
    """Put refused measurands among the others, where the packet has them."""
    index_of = {measurand.key: measurand.index for measurand in packet.measurands}
    placed: list[tuple[int, int, Step]] = []
    for order, step in enumerate(steps):
        key = step.action.measurand if isinstance(step, CapacityStep) else step.measurand
        placed.append((index_of.get(key or "", len(index_of) + len(packet.refused)), order, step))
    placed.extend((refused.index, -1, refused_measurand(refused)) for refused in packet.refused)
    placed.sort(key=lambda one: one[:2])
    return [step for _, _, step in placed]
