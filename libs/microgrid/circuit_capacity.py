"""How much a circuit may draw for charging, and who says so: the controller, or the fail-safe value.

A controller is in control while its last `HEARTBEAT_STATUS` was true and is younger than the action's `heartbeat_timeout_s`.
Then the circuit's capacity is the last `AVAILABLE_CHARGING_CAPACITY`. With a false heartbeat, or once the timeout passes
without a true one, it is the last reported `FAIL_SAFE_CAPACITY`, else the circuit's `safe_capacity_kw`, else 0; one
`ControllerHeartbeatLost` says so, and one `ControllerHeartbeatRestored` when it comes back. A controller that never sent a
heartbeat is not in control: its capacity is kept as history. No value exceeds the circuit's rating; a higher one is cut to it
and the event keeps both.

Edge cases, each chosen so that a fuse is never trusted to an old promise:

- A report older than the timeout never changes anything: it is history, however it arrives.
- A heartbeat counts from the earlier of its observation and its receipt, so a clock that runs ahead buys no time.
- A heartbeat that is not newer than the last one known changes nothing.
- Losses and returns are stamped later than whatever counted for the circuit before, so that they are the latest value even
  where a clock ran ahead; a late capacity from before the loss can then not turn it back.
- A heartbeat that returns without a capacity brings back the last one reported only while that is younger than the timeout.
- A new fail-safe value takes effect at once while it is the one in force.
- Where a stamp stands ahead of a controller's clock, that controller's newest value would not be the latest; it is then stated
  once more, stamped behind everything else, so that a lowered value never waits for a clock to catch up.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from microgrid import events, subjects
from microgrid.events import Event
from microgrid.reporting import (
    APPLIED,
    RECORDED,
    CapacityStep,
    Origin,
    Reported,
    report_event,
    report_payload,
    value_in_kw,
)
from microgrid.routing import PlannedAction, Target
from sensor_packet.packet import Measurand

NEVER_REPORTED = "NEVER_REPORTED"
OK = "OK"
LOST = "LOST"

CONTROLLER = "CONTROLLER"
FAIL_SAFE = "FAIL_SAFE"
NONE = "NONE"

CLOCK: Mapping[str, object] = {"source": "clock"}
"""Metadata of an event that no packet caused."""

_JUST_AFTER = timedelta(microseconds=1)


class ControllerHealth(msgspec.Struct, frozen=True):
    """What is known of one controller's hold on one circuit; one row per sensor action, changed in the batch's transaction.

    `deadline_at` is when the heartbeat counts as lost (set only while `status` is `OK`); `capacity_at` the greatest stamp of
    anything that counted for the circuit's capacity. Powers in kW.
    """

    sensor_action_id: str
    device_id: str
    gateway_id: str
    depot_id: str
    microgrid_id: str | None
    circuit_id: str
    status: str = NEVER_REPORTED
    heartbeat_at: datetime | None = None
    lost_from: datetime | None = None
    deadline_at: datetime | None = None
    available_kw: float | None = None
    available_at: datetime | None = None
    fail_safe_kw: float | None = None
    fail_safe_at: datetime | None = None
    capacity_at: datetime | None = None


class CircuitLimits(msgspec.Struct, frozen=True):
    """The circuit's own limits in kW; None is no limit."""

    rating_kw: float | None
    safe_capacity_kw: float | None


class CapacityDecision(msgspec.Struct, frozen=True):
    """The health after a step, the events to store before the capacity's own, and that one's outcome if there was one."""

    health: ControllerHealth
    transitions: tuple[Event, ...]
    reported: Reported | None


class EffectiveCapacity(msgspec.Struct, frozen=True):
    """What a circuit may draw now; `uncut_kw` is before the rating cut it. None where nobody is in control (`NONE`)."""

    capacity_kw: float | None
    source: str
    uncut_kw: float | None
    rule: str


def new_health(step: CapacityStep) -> ControllerHealth:
    """The health of a controller that nothing is known of yet."""
    target = step.action.target
    if not isinstance(target, Target) or step.action.sensor_action_id is None:
        raise ValueError("a capacity step has a sensor action with a circuit")
    return ControllerHealth(
        sensor_action_id=step.action.sensor_action_id,
        device_id=step.origin.device_id,
        gateway_id=step.origin.gateway_id,
        depot_id=step.origin.depot_id,
        microgrid_id=step.origin.microgrid_id,
        circuit_id=target.target_id,
    )


def decide(health: ControllerHealth, step: CapacityStep, now: datetime) -> CapacityDecision:
    """Take in what one packet says of a circuit's capacity. `now` is when it acts, which a replay does not turn back."""
    limits = CircuitLimits(step.action.rating_kw, step.action.safe_capacity_kw)
    timeout = timedelta(seconds=step.action.heartbeat_timeout_s)
    health, lapsed = lapse(_of_this_action(health, step), limits, now, step.origin.metadata)
    transitions = list(lapsed)

    health, fail_safe_changed = _take_fail_safe(health, step, now, timeout)
    counts = step.capacity is not None and _acts(step.capacity, now, timeout)
    is_newest = False
    if counts and step.capacity is not None:
        health, is_newest = _take_available(health, step.capacity, step.action.scale)
    status_before = health.status
    health = _take_heartbeat(health, step, now, timeout)
    becomes_latest = counts and step.capacity is not None and _is_behind_all(health, step.capacity)
    cause: Measurand | None = None
    if health.status != status_before:
        if status_before != NEVER_REPORTED or health.status != OK:
            health, event = _transition(health, step, limits, now, timeout)
            transitions.append(event)
        elif not (is_newest and becomes_latest) and effective_capacity(health, limits, now, timeout).source == CONTROLLER:
            # The first heartbeat is no return; it only brings into force a capacity that was waiting for it.
            cause = step.heartbeat
    elif fail_safe_changed and _fail_safe_is_in_force(health) and not becomes_latest:
        cause = step.fail_safe
    elif is_newest and health.status == OK and not becomes_latest:
        cause = step.capacity
    if cause is not None:
        health, event = _restate(health, cause, step, limits, now, timeout)
        transitions.append(event)

    reported = None
    if step.capacity is not None:
        health, reported = _report_capacity(health, step, step.capacity, limits, now, timeout, counts=counts)
    return CapacityDecision(health, tuple(transitions), reported)


def lapse(
    health: ControllerHealth, limits: CircuitLimits, now: datetime, metadata: Mapping[str, object] = CLOCK
) -> tuple[ControllerHealth, tuple[Event, ...]]:
    """Notice by the clock that a heartbeat timed out: the health after it and the event that says so, if it just did."""
    if health.status != OK or health.deadline_at is None or now < health.deadline_at:
        return health, ()
    lost = msgspec.structs.replace(health, status=LOST, lost_from=health.heartbeat_at, deadline_at=None)
    stamp = _stamp(health, health.deadline_at)
    capacity = effective_capacity(lost, limits, now, timedelta(0))
    heartbeat_at = health.heartbeat_at or stamp
    event = _transition_event(
        events.CONTROLLER_HEARTBEAT_LOST, lost, heartbeat_at, stamp, stamp, capacity, "TIMEOUT", limits, metadata
    )
    return msgspec.structs.replace(lost, capacity_at=stamp), (event,)


def effective_capacity(health: ControllerHealth, limits: CircuitLimits, now: datetime, timeout: timedelta) -> EffectiveCapacity:
    """What the circuit may draw by what is known at `now`, before anything is stored about it."""
    if health.status == NEVER_REPORTED:
        return EffectiveCapacity(None, NONE, None, "NOT_IN_CONTROL")
    timed_out = health.deadline_at is not None and now >= health.deadline_at
    if health.status == OK and not timed_out:
        young = health.available_at is not None and now - health.available_at <= timeout
        if young and health.available_kw is not None:
            return EffectiveCapacity(_cut(health.available_kw, limits), CONTROLLER, health.available_kw, "HEARTBEAT_OK")
    if health.fail_safe_kw is not None:
        return EffectiveCapacity(_cut(health.fail_safe_kw, limits), FAIL_SAFE, health.fail_safe_kw, "REPORTED_FAIL_SAFE")
    if limits.safe_capacity_kw is not None:
        return EffectiveCapacity(_cut(limits.safe_capacity_kw, limits), FAIL_SAFE, limits.safe_capacity_kw, "CIRCUIT_SAFE_CAPACITY")
    return EffectiveCapacity(0.0, FAIL_SAFE, 0.0, "NO_FAIL_SAFE_KNOWN")


def _acts(measurand: Measurand, now: datetime, timeout: timedelta) -> bool:
    return measurand.quality != "BAD" and now - measurand.observed_at <= timeout


def _of_this_action(health: ControllerHealth, step: CapacityStep) -> ControllerHealth:
    """The health under the device, microgrid and circuit that its action has now."""
    now_about = new_health(step)
    return msgspec.structs.replace(
        health,
        device_id=now_about.device_id,
        gateway_id=now_about.gateway_id,
        depot_id=now_about.depot_id,
        microgrid_id=now_about.microgrid_id,
        circuit_id=now_about.circuit_id,
        # What counted for another circuit says nothing of this one.
        capacity_at=health.capacity_at if health.circuit_id == now_about.circuit_id else None,
    )


def _is_behind_all(health: ControllerHealth, capacity: Measurand) -> bool:
    """Whether a report that counts will be the circuit's latest value by its own time of observation."""
    return health.capacity_at is None or capacity.observed_at > health.capacity_at


def _fail_safe_is_in_force(health: ControllerHealth) -> bool:
    # A heartbeat that returned to an old capacity left none (see `_transition`).
    return health.status == LOST or (health.status == OK and health.available_kw is None and health.capacity_at is not None)


def _take_fail_safe(
    health: ControllerHealth, step: CapacityStep, now: datetime, timeout: timedelta
) -> tuple[ControllerHealth, bool]:
    measurand = step.fail_safe
    if measurand is None or measurand.quality == "BAD":
        return health, False
    if health.fail_safe_at is not None and measurand.observed_at <= health.fail_safe_at:
        return health, False
    if _fail_safe_is_in_force(health) and not _acts(measurand, now, timeout):
        # It may not change what is in force, so it must not be mistaken for that later either.
        return health, False
    value = value_in_kw(measurand, None)
    changed = value != health.fail_safe_kw
    return msgspec.structs.replace(health, fail_safe_kw=value, fail_safe_at=measurand.observed_at), changed


def _take_available(health: ControllerHealth, measurand: Measurand, scale: float | None) -> tuple[ControllerHealth, bool]:
    if health.available_at is not None and measurand.observed_at <= health.available_at:
        return health, False
    available_kw = value_in_kw(measurand, scale)
    return msgspec.structs.replace(health, available_kw=available_kw, available_at=measurand.observed_at), True


def _take_heartbeat(health: ControllerHealth, step: CapacityStep, now: datetime, timeout: timedelta) -> ControllerHealth:
    measurand = step.heartbeat
    if measurand is None or not _acts(measurand, now, timeout):
        return health
    if health.heartbeat_at is not None and measurand.observed_at <= health.heartbeat_at:
        return health
    if measurand.normalised is not True:
        lost_from = health.lost_from if health.status == LOST else health.heartbeat_at or measurand.observed_at
        return msgspec.structs.replace(
            health, status=LOST, heartbeat_at=measurand.observed_at, lost_from=lost_from, deadline_at=None
        )
    deadline_at = min(measurand.observed_at, step.origin.received_at) + timeout
    if deadline_at <= now:
        return health
    return msgspec.structs.replace(health, status=OK, heartbeat_at=measurand.observed_at, deadline_at=deadline_at)


def _transition(
    health: ControllerHealth, step: CapacityStep, limits: CircuitLimits, now: datetime, timeout: timedelta
) -> tuple[ControllerHealth, Event]:
    heartbeat = step.heartbeat
    if heartbeat is None:
        raise ValueError("only a heartbeat or the clock changes the status")
    stamp = _stamp(health, heartbeat.observed_at)
    lost = health.status == LOST
    capacity = effective_capacity(health, limits, now, timeout)
    event = _transition_event(
        events.CONTROLLER_HEARTBEAT_LOST if lost else events.CONTROLLER_HEARTBEAT_RESTORED,
        health,
        (health.lost_from or heartbeat.observed_at) if lost else heartbeat.observed_at,
        stamp,
        max(stamp, step.origin.sent_at),
        capacity,
        "REPORTED_FALSE" if lost else "REPORTED_TRUE",
        limits,
        step.origin.metadata,
    )
    if not lost and capacity.source == FAIL_SAFE:
        health = msgspec.structs.replace(health, available_kw=None)
    return msgspec.structs.replace(health, capacity_at=stamp), event


def _report_capacity(
    health: ControllerHealth,
    step: CapacityStep,
    measurand: Measurand,
    limits: CircuitLimits,
    now: datetime,
    timeout: timedelta,
    *,
    counts: bool,
) -> tuple[ControllerHealth, Reported]:
    reported_kw = value_in_kw(measurand, step.action.scale) or 0.0
    history_only = not counts or health.status == NEVER_REPORTED
    if history_only or health.status == OK:
        source = NONE if history_only else CONTROLLER
        rule = "HISTORY_ONLY" if history_only else "HEARTBEAT_OK"
        capacity = EffectiveCapacity(_cut(reported_kw, limits), source, reported_kw, rule)
    else:
        capacity = effective_capacity(health, limits, now, timeout)
    event = _capacity_event(measurand, step.action, step.origin, health, capacity, limits, history_only=history_only)
    if not history_only:
        health = _seen(health, measurand.observed_at)
    outcome = RECORDED if history_only else APPLIED
    return health, Reported(measurand.key, step.action.action, outcome, event, step.action.sensor_action_id)


def _restate(
    health: ControllerHealth,
    measurand: Measurand,
    step: CapacityStep,
    limits: CircuitLimits,
    now: datetime,
    timeout: timedelta,
) -> tuple[ControllerHealth, Event]:
    """Say what is in force now, because of a report that would not do so by its own time of observation."""
    stamp = _stamp(health, measurand.observed_at)
    capacity = effective_capacity(health, limits, now, timeout)
    # An identity of its own, beside that of the event which the report itself may cause.
    action = msgspec.structs.replace(
        step.action,
        selectors=f"{step.action.selectors}\0IN_FORCE",
        scale=step.action.scale if measurand.key == step.action.measurand else None,
    )
    event = _capacity_event(measurand, action, step.origin, health, capacity, limits, history_only=False)
    event = msgspec.structs.replace(event, observed_at=stamp, sent_at=max(stamp, step.origin.sent_at))
    return msgspec.structs.replace(health, capacity_at=stamp), event


def _capacity_event(
    measurand: Measurand,
    action: PlannedAction,
    origin: Origin,
    health: ControllerHealth,
    capacity: EffectiveCapacity,
    limits: CircuitLimits,
    *,
    history_only: bool,
) -> Event:
    target = action.target
    if not isinstance(target, Target):
        raise ValueError("a capacity step has a circuit")
    payload = report_payload(measurand, target, origin)
    value = value_in_kw(measurand, action.scale)
    payload["circuit_id"] = target.target_id
    payload["controller_value_kw"] = value
    payload.update(_capacity_payload(capacity, health, limits))
    return report_event(events.CIRCUIT_CAPACITY_REPORTED, measurand, action, origin, payload, history_only=history_only)


def _transition_event(
    event_type: str,
    health: ControllerHealth,
    counted_from: datetime,
    observed_at: datetime,
    sent_at: datetime,
    capacity: EffectiveCapacity,
    cause: str,
    limits: CircuitLimits,
    metadata: Mapping[str, object],
) -> Event:
    payload: dict[str, object] = {
        "device_id": health.device_id,
        "gateway_id": health.gateway_id,
        "circuit_id": health.circuit_id,
        "cause": cause,
        "heartbeat_at": events.utc_text(counted_from),
    }
    payload.update(_capacity_payload(capacity, health, limits))
    return Event(
        events.heartbeat_event_id(event_type, health.device_id, health.circuit_id, counted_from),
        event_type,
        health.depot_id,
        health.microgrid_id,
        subjects.circuit_capacity_subject(health.circuit_id),
        history_only=False,
        observed_at=observed_at,
        sent_at=sent_at,
        source_event_ref=None,
        payload=payload,
        metadata=metadata,
    )


def _capacity_payload(capacity: EffectiveCapacity, health: ControllerHealth, limits: CircuitLimits) -> dict[str, object]:
    return {
        "available_capacity_kw": capacity.capacity_kw,
        "source": capacity.source,
        "capacity_rule": capacity.rule,
        "uncut_kw": capacity.uncut_kw,
        "rating_kw": limits.rating_kw,
        "heartbeat": health.status,
    }


def _cut(value_kw: float, limits: CircuitLimits) -> float:
    return value_kw if limits.rating_kw is None else min(value_kw, limits.rating_kw)


def _stamp(health: ControllerHealth, observed_at: datetime) -> datetime:
    # Not before the capacity that it states either, or an older one that comes late would stand behind it.
    moments = [observed_at]
    if health.available_at is not None:
        moments.append(health.available_at)
    if health.capacity_at is not None:
        moments.append(health.capacity_at + _JUST_AFTER)
    return max(moments)


def _seen(health: ControllerHealth, observed_at: datetime) -> ControllerHealth:
    if health.capacity_at is not None and observed_at <= health.capacity_at:
        return health
    return msgspec.structs.replace(health, capacity_at=observed_at)
