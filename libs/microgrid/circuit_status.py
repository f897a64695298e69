"""What a circuit may draw for charging as its card shows it, and whether its controller is in control.

Shown are the circuits with a controller (an enabled capacity action, or health on record) or with a capacity report. The
capacity is that of the latest event, cut to the circuit's present rating. A heartbeat whose deadline has passed counts as lost
from that moment, also before anything is stored about it: then the capacity is the fail-safe one. Of several controllers of one
circuit the one that made the latest event counts, else the one heard last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from microgrid import subjects
from microgrid.circuit_capacity import LOST, NEVER_REPORTED, NONE, OK, CircuitLimits, ControllerHealth, effective_capacity
from microgrid.events import Event
from microgrid.report_facts import Source, number_or_none, received_at, source_of, text_or_none
from microgrid.routing import Target, resolve_circuit
from microgrid.site_model import DEFAULT_HEARTBEAT_TIMEOUT_S, UPDATE_CIRCUIT_CAPACITY, Circuit, Site


@dataclass(frozen=True, slots=True)
class CircuitEntry:
    """What a circuit may draw for charging, in kW; null is not known. `deadline_at` is when the heartbeat will count as lost."""

    circuit_id: str
    name: str
    available_capacity_kw: float | None
    uncut_kw: float | None
    rating_kw: float | None
    safe_capacity_kw: float | None
    source: str
    heartbeat: str
    rule: str | None
    observed_at: datetime | None
    received_at: datetime | None
    deadline_at: datetime | None
    device: Source | None
    event_id: str | None


@dataclass(frozen=True, slots=True)
class Controllers:
    """What the configuration says of who controls circuits: each circuit's controller, and each action's heartbeat timeout in s."""

    of_circuit: Mapping[str, Source]
    timeout_s: Mapping[str, float]


def find_controllers(site: Site) -> Controllers:
    """The controllers that a site's configuration gives its circuits; of several on one circuit the first by action."""
    timeouts = {
        action.sensor_action_id: action.heartbeat_timeout_s or DEFAULT_HEARTBEAT_TIMEOUT_S
        for action in site.sensor_actions
        if action.action == UPDATE_CIRCUIT_CAPACITY
    }
    return Controllers(_controlled_circuits(site), timeouts)


def circuit_entries(
    site: Site, controllers: Controllers, latest: Mapping[str, Event], healths: Iterable[ControllerHealth], now: datetime
) -> tuple[CircuitEntry, ...]:
    """The circuits of a card at `now`, by id."""
    health_of: dict[str, list[ControllerHealth]] = {}
    for health in healths:
        health_of.setdefault(health.circuit_id, []).append(health)
    entries: list[CircuitEntry] = []
    for circuit in sorted(site.circuits, key=lambda one: one.circuit_id):
        event = latest.get(subjects.circuit_capacity_subject(circuit.circuit_id))
        known = health_of.get(circuit.circuit_id, [])
        if event is None and not known and circuit.circuit_id not in controllers.of_circuit:
            continue
        health = _deciding_health(event, known)
        timeout_s = controllers.timeout_s.get(health.sensor_action_id if health else "", DEFAULT_HEARTBEAT_TIMEOUT_S)
        controller = controllers.of_circuit.get(circuit.circuit_id)
        entries.append(_circuit_entry(circuit, event, health, controller, timeout_s, now))
    return tuple(entries)


def _controlled_circuits(site: Site) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for action in sorted(site.sensor_actions, key=lambda one: one.sensor_action_id):
        device = site.device_by_id.get(action.device_id)
        if action.action != UPDATE_CIRCUIT_CAPACITY or not action.enabled or device is None:
            continue
        target = resolve_circuit(site, device, action.circuit_id)
        if isinstance(target, Target):
            found.setdefault(target.target_id, Source(device.device_id, device.gateway_id))
    return found


def _deciding_health(event: Event | None, known: Sequence[ControllerHealth]) -> ControllerHealth | None:
    if not known:
        return None
    long_ago = datetime.min.replace(tzinfo=UTC)
    device_id = event.payload.get("device_id") if event else None
    return max(
        known,
        key=lambda one: (
            one.device_id == device_id,
            one.capacity_at or long_ago,
            one.heartbeat_at or long_ago,
            one.sensor_action_id,
        ),
    )


def _circuit_entry(
    circuit: Circuit,
    event: Event | None,
    health: ControllerHealth | None,
    controller: Source | None,
    timeout_s: float,
    now: datetime,
) -> CircuitEntry:
    limits = CircuitLimits(circuit.rating_kw, circuit.safe_capacity_kw)
    deadline_at = health.deadline_at if health and health.status == OK else None
    overdue = deadline_at is not None and now >= deadline_at
    observed_at = event.observed_at if event else None
    if health is not None and (overdue or event is None):
        capacity = effective_capacity(health, limits, now, timedelta(seconds=timeout_s))
        available_kw, source, uncut_kw, rule = capacity.capacity_kw, capacity.source, capacity.uncut_kw, capacity.rule
        observed_at = deadline_at if overdue else observed_at
    elif event is not None:
        available_kw = number_or_none(event.payload.get("available_capacity_kw"))
        source = text_or_none(event.payload.get("source")) or NONE
        uncut_kw = number_or_none(event.payload.get("uncut_kw"))
        rule = text_or_none(event.payload.get("capacity_rule"))
    else:
        available_kw, source, uncut_kw, rule = None, NONE, None, "NOT_IN_CONTROL"
    if available_kw is not None and circuit.rating_kw is not None:
        available_kw = min(available_kw, circuit.rating_kw)
    if overdue:
        heartbeat = LOST
    elif health is not None:
        heartbeat = health.status
    else:
        heartbeat = (text_or_none(event.payload.get("heartbeat")) if event else None) or NEVER_REPORTED
    if health is not None:
        controller = Source(health.device_id, health.gateway_id)
    elif event is not None:
        controller = source_of(event)
    return CircuitEntry(
        circuit_id=circuit.circuit_id,
        name=circuit.name,
        available_capacity_kw=available_kw,
        uncut_kw=uncut_kw,
        rating_kw=circuit.rating_kw,
        safe_capacity_kw=circuit.safe_capacity_kw,
        source=source,
        heartbeat=heartbeat,
        rule=rule,
        observed_at=observed_at,
        received_at=received_at(event) if event is not None and not overdue else None,
        deadline_at=None if overdue else deadline_at,
        device=controller,
        event_id=event.event_id if event is not None and not overdue else None,
    )
