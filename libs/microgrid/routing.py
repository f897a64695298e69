"""Where a device's report goes: which power source, which circuit, which microgrid.

A target depends on the configuration alone and not on the packet, so it is decided once per device, kept in a `DevicePlan`,
and costs the hot path one dictionary look-up. Whoever changes a depot's configuration throws its plans away.

Which power source. The first rule that has a candidate decides, and the event names that rule:

0. `EXPLICIT`: the action's own `power_source_id`. How a person settles an ambiguity for good.
1. `CIRCUIT`: the power sources on the device's linked circuit, the grid supply left out.
2. `DEPOT_BATTERY`: the batteries of the device's depot.
3. `OUTPUT_TRANSLATION`: what the gateway's `output_translation` says of the measurand.

More than one candidate never falls through to the next rule and never writes; it is for a person to settle. An explicit id or
a translation that names a power source of no or another depot is `INVALID_POWER_SOURCE`; no candidate in any rule is
`NO_POWER_SOURCE`. All of it works without a site model. Outputs of a gateway's site model (`model_outputs`) need no sensor
action, take the place of one for the same key, and always go where `output_translation` says, whatever rules 0 to 2 would.

Which circuit: the action's own, else the device's linked one, else the depot's only top-level circuit.

Which microgrid: the device's depot's. The device must own the active control point of that capability and scope, and the measurand
must be the one that feeds it: a second measurand of the owner would be a second source.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from microgrid import events, subjects
from microgrid.site_model import (
    DEFAULT_HEARTBEAT_TIMEOUT_S,
    MODEL_OUTPUT_ACTIONS,
    RECORD_MEASUREMENT,
    UPDATE_CIRCUIT_CAPACITY,
    UPDATE_MICROGRID_STATE,
    UPDATE_POWER_SOURCE_STATE,
    Device,
    SensorAction,
    Site,
)

REMEDIATION = "REMEDIATION"
REJECTED = "REJECTED"

HEARTBEAT_STATUS = "HEARTBEAT_STATUS"
FAIL_SAFE_CAPACITY = "FAIL_SAFE_CAPACITY"


class Target(msgspec.Struct, frozen=True, gc=False):
    """What an action acts on, and the rule and candidates that led there."""

    target_id: str
    rule: str
    candidates: tuple[str, ...]


class Unroutable(msgspec.Struct, frozen=True, gc=False):
    """No target: `outcome` is `REMEDIATION` (a person must settle the configuration) or `REJECTED`."""

    outcome: str
    code: str
    candidates: tuple[str, ...] = ()


class PlannedAction(msgspec.Struct, frozen=True, gc=False):
    """A sensor action with its target already found. `sensor_action_id` is None for what needs no sensor action."""

    sensor_action_id: str | None
    measurand: str
    action: str
    target: Target | Unroutable
    subject: str | None
    selectors: str
    scale: float | None = None
    capability: str | None = None
    node_id: str | None = None
    control_point_id: str | None = None
    heartbeat_timeout_s: float = DEFAULT_HEARTBEAT_TIMEOUT_S
    rating_kw: float | None = None
    safe_capacity_kw: float | None = None


class DevicePlan(msgspec.Struct, frozen=True, gc=False):
    """All that routing needs to know of one device: its planned actions by measurand, in order of `sensor_action_id`."""

    device_id: str
    gateway_id: str
    enabled: bool
    depot_id: str
    microgrid_id: str | None
    actions: dict[str, tuple[PlannedAction, ...]]
    capacity_actions: tuple[PlannedAction, ...]


def plan_device(site: Site, device: Device) -> DevicePlan:
    """Decide every target of a device's enabled sensor actions and of its gateway's model outputs."""
    model_outputs = _plan_model_outputs(site, device)
    planned: dict[str, list[PlannedAction]] = {}
    for action in site.actions_by_device.get(device.device_id, []):
        if action.enabled and action.measurand not in model_outputs:
            planned.setdefault(action.measurand, []).append(_plan_action(site, device, action))
    capacity_actions = tuple(
        action for actions in planned.values() for action in actions if action.action == UPDATE_CIRCUIT_CAPACITY
    )
    if capacity_actions:
        _record_what_capacity_depends_on(planned, device)
    for measurand, actions in model_outputs.items():
        planned[measurand] = [*actions, *planned.get(measurand, [])]
    return DevicePlan(
        device_id=device.device_id,
        gateway_id=device.gateway_id,
        enabled=device.enabled,
        depot_id=site.depot.depot_id,
        microgrid_id=site.microgrid.microgrid_id if site.microgrid else None,
        actions={measurand: tuple(actions) for measurand, actions in planned.items()},
        capacity_actions=capacity_actions,
    )


def resolve_power_source(
    site: Site, device: Device, measurand: str, explicit_power_source_id: str | None = None
) -> Target | Unroutable:
    """Apply rules 0 to 3 for one measurand of a device."""
    if explicit_power_source_id is not None:
        return _named_power_source(site, explicit_power_source_id, "EXPLICIT")
    if device.circuit_id is not None:
        on_circuit = tuple(
            source.power_source_id
            for source in site.power_sources
            if source.circuit_id == device.circuit_id and source.kind != "GRID"
        )
        if on_circuit:
            return _single(on_circuit, "CIRCUIT", "AMBIGUOUS_CIRCUIT_POWER_SOURCE")
    batteries = tuple(source.power_source_id for source in site.power_sources if source.kind == "BATTERY")
    if batteries:
        return _single(batteries, "DEPOT_BATTERY", "AMBIGUOUS_DEPOT_BATTERY")
    return _translated_power_source(site, device, measurand)


def resolve_circuit(site: Site, device: Device, explicit_circuit_id: str | None = None) -> Target | Unroutable:
    """The circuit whose capacity a device reports."""
    for circuit_id, rule in ((explicit_circuit_id, "EXPLICIT"), (device.circuit_id, "DEVICE_CIRCUIT")):
        if circuit_id is not None:
            if circuit_id in site.circuit_by_id:
                return Target(circuit_id, rule, (circuit_id,))
            return Unroutable(REMEDIATION, "CIRCUIT_NOT_FOUND", (circuit_id,))
    top_level = tuple(circuit.circuit_id for circuit in site.top_level_circuits)
    if not top_level:
        return Unroutable(REMEDIATION, "CIRCUIT_NOT_FOUND")
    return _single(top_level, "ONLY_TOP_LEVEL_CIRCUIT", "AMBIGUOUS_CIRCUIT")


def resolve_capability(
    site: Site, device: Device, capability: str, node_id: str | None, measurand: str | None = None
) -> Target | Unroutable:
    """The control point of a capability and scope, if this device owns it and feeds it by this measurand (None: by any).

    The target's id is the control point's.
    """
    if site.microgrid is None:
        return Unroutable(REMEDIATION, "MICROGRID_NOT_FOUND")
    owner = site.active_control_point(capability, node_id)
    if owner is None:
        return Unroutable(REMEDIATION, "CAPABILITY_NOT_BOUND")
    if owner.device_id != device.device_id or measurand not in (None, owner.measurand):
        return Unroutable(REJECTED, "CAPABILITY_SOURCE_CONFLICT", (owner.device_id,))
    return Target(owner.control_point_id, "DEPOT_MICROGRID", (site.microgrid.microgrid_id,))


def _plan_action(site: Site, device: Device, action: SensorAction) -> PlannedAction:
    target, subject = _target_and_subject(site, device, action)
    planned = PlannedAction(
        sensor_action_id=action.sensor_action_id,
        measurand=action.measurand,
        action=action.action,
        target=target,
        subject=subject,
        selectors=events.action_selectors(action.capability, action.node_id, action.power_source_id, action.circuit_id),
        scale=action.scale,
        capability=action.capability,
        node_id=action.node_id,
        control_point_id=target.target_id if action.action == UPDATE_MICROGRID_STATE and isinstance(target, Target) else None,
        heartbeat_timeout_s=action.heartbeat_timeout_s or DEFAULT_HEARTBEAT_TIMEOUT_S,
    )
    if action.action == UPDATE_CIRCUIT_CAPACITY and isinstance(target, Target):
        circuit = site.circuit_by_id[target.target_id]
        planned = msgspec.structs.replace(planned, rating_kw=circuit.rating_kw, safe_capacity_kw=circuit.safe_capacity_kw)
    return planned


def _target_and_subject(site: Site, device: Device, action: SensorAction) -> tuple[Target | Unroutable, str | None]:
    match action.action:
        case "UPDATE_POWER_SOURCE_STATE":
            target = resolve_power_source(site, device, action.measurand, action.power_source_id)
            return target, _subject(target, subjects.power_source_state_subject)
        case "UPDATE_POWER_SOURCE_LOAD":
            target = resolve_power_source(site, device, action.measurand, action.power_source_id)
            return target, _subject(target, subjects.power_source_load_subject)
        case "UPDATE_CIRCUIT_CAPACITY":
            target = resolve_circuit(site, device, action.circuit_id)
            return target, _subject(target, subjects.circuit_capacity_subject)
        case "UPDATE_MICROGRID_STATE":
            if action.capability is None or site.microgrid is None:
                return Unroutable(REMEDIATION, "MICROGRID_NOT_FOUND"), None
            target = resolve_capability(site, device, action.capability, action.node_id, action.measurand)
            return target, subjects.capability_subject(site.microgrid.microgrid_id, action.node_id, action.capability)
        case _:
            target = Target(device.device_id, "DEVICE", (device.device_id,))
            return target, subjects.measurement_subject(device.device_id, action.measurand)


def _subject(target: Target | Unroutable, name: Callable[[str], str]) -> str | None:
    return name(target.target_id) if isinstance(target, Target) else None


def _record_what_capacity_depends_on(planned: dict[str, list[PlannedAction]], device: Device) -> None:
    """What a capacity decision used must be on record, also where nobody bound it."""
    for measurand in (HEARTBEAT_STATUS, FAIL_SAFE_CAPACITY):
        actions = planned.setdefault(measurand, [])
        if all(action.action != RECORD_MEASUREMENT for action in actions):
            actions.append(
                PlannedAction(
                    sensor_action_id=None,
                    measurand=measurand,
                    action=RECORD_MEASUREMENT,
                    target=Target(device.device_id, "DEVICE", (device.device_id,)),
                    subject=subjects.measurement_subject(device.device_id, measurand),
                    selectors=events.action_selectors(None, None, None, None),
                )
            )


def _plan_model_outputs(site: Site, device: Device) -> dict[str, list[PlannedAction]]:
    gateway = site.gateway_by_id.get(device.gateway_id)
    if gateway is None or gateway.site_model_name is None:
        return {}
    planned: dict[str, list[PlannedAction]] = {}
    for measurand, action in gateway.model_outputs.items():
        if action not in MODEL_OUTPUT_ACTIONS:
            continue
        target = _translated_power_source(site, device, measurand)
        name = subjects.power_source_state_subject if action == UPDATE_POWER_SOURCE_STATE else subjects.power_source_load_subject
        planned[measurand] = [
            PlannedAction(
                sensor_action_id=None,
                measurand=measurand,
                action=action,
                target=target,
                subject=_subject(target, name),
                selectors=events.action_selectors(None, None, None, None),
            )
        ]
    return planned


def _translated_power_source(site: Site, device: Device, measurand: str) -> Target | Unroutable:
    gateway = site.gateway_by_id.get(device.gateway_id)
    translated = gateway.output_translation.get(measurand) if gateway else None
    if translated is None:
        return Unroutable(REMEDIATION, "NO_POWER_SOURCE")
    return _named_power_source(site, translated, "OUTPUT_TRANSLATION")


def _named_power_source(site: Site, power_source_id: str, rule: str) -> Target | Unroutable:
    if power_source_id in site.power_source_by_id:
        return Target(power_source_id, rule, (power_source_id,))
    return Unroutable(REMEDIATION, "INVALID_POWER_SOURCE", (power_source_id,))


def _single(candidates: tuple[str, ...], rule: str, code_of_several: str) -> Target | Unroutable:
    if len(candidates) == 1:
        return Target(candidates[0], rule, candidates)
    return Unroutable(REMEDIATION, code_of_several, tuple(sorted(candidates)))
