"""Every event that the code makes is as its schema says, and every event type has a schema and an example."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from tests.contracts.event_schema import ENVELOPE, as_document, schema, schema_names, validate_event
from tests.microgrid.sites import BATTERY, MICROGRID_ID, NODE_ID, NOW, action, control_point, packet, plan, site

from microgrid.circuit_capacity import CircuitLimits, ControllerHealth, decide, lapse, new_health
from microgrid.events import EVENT_TYPES, SCHEMA_VERSION, Event
from microgrid.provisioning import MicrogridChange, provision, reconcile, resynced, retired
from microgrid.reporting import CapacityStep, Reported, report
from microgrid.site_model import ACTIONS, CAPABILITIES, UPDATE_CIRCUIT_CAPACITY, UPDATE_MICROGRID_STATE, Circuit, Gateway
from sensor_packet.battery_mode import MODES
from sensor_packet.contract_files import list_contracts, read_contract
from site_operations.import_site import binding_payload, move_payload

Members = dict[str, Any]


def example(event_type: str) -> dict[str, Any]:
    return msgspec.json.decode(read_contract(f"events/examples/{event_type}.json"))


def test_every_event_type_and_nothing_else_has_a_schema_and_an_example() -> None:
    assert set(schema_names()) == {ENVELOPE, *(f"{one}.v{SCHEMA_VERSION}" for one in EVENT_TYPES)}
    assert list_contracts("events/examples") == sorted(f"events/examples/{one}.json" for one in EVENT_TYPES)


@pytest.mark.parametrize("name", schema_names())
def test_each_schema_is_one_and_is_strict_about_the_payload(name: str) -> None:
    one = schema(name)
    Draft202012Validator.check_schema(one)
    if name != ENVELOPE:
        payload = one["properties"]["payload"]
        assert payload["additionalProperties"] is False
        assert set(payload["required"]) | {"raw_unit"} >= set(payload["properties"])
        assert one["$id"] == f"urn:depotgrid:event:{name.replace('.v', ':')}"


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_each_example_is_valid(event_type: str) -> None:
    assert example(event_type)["event_type"] == event_type
    assert validate_event(example(event_type)) == []


def spoiled(of: dict[str, Any]) -> Iterator[dict[str, Any]]:
    payload = of["payload"]
    yield {**of, "payload": {**payload, "surplus": 1}}
    for name in payload:
        if name != "raw_unit":
            yield {**of, "payload": {one: value for one, value in payload.items() if one != name}}
    for name in of:
        yield {one: value for one, value in of.items() if one != name}
    yield {**of, "observed_at": "2026-11-20T21:00:00"}
    yield {**of, "event_id": "not-a-uuid"}
    yield {**of, "depot_id": "a depot"}
    yield {**of, "schema_version": 2}
    yield {**of, "event_type": "Unheard"}


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_an_event_that_lacks_anything_or_says_more_is_invalid(event_type: str) -> None:
    for one in spoiled(example(event_type)):
        assert validate_event(one), one


def test_an_event_with_what_storing_and_later_versions_of_the_envelope_add_is_valid() -> None:
    more: Members = {"recorded_at": "2026-11-20T21:00:01Z", "position": "12-345", "unheard_of": {}}
    assert validate_event({**example("MeasurementRecorded"), **more}) == []


# --- what the code makes --------------------------------------------------------------------------

KEYS = (
    "PEAK_SHAVING",
    "BESS_OPERATIONAL_MODE",
    "ACTIVE_POWER",
    "DEVICE_POWER_STATE",
    "SOC",
    "AVAILABLE_CHARGING_CAPACITY",
    "ANY",
    "GEN",
)
_numbers = itertools.count(1)
WITH_EVERYTHING = site(
    *(
        action(
            kind,
            key,
            sensor_action_id=f"00000000-0000-7000-8000-{next(_numbers):012d}",
            capability=capability,
            scale=scale,
        )
        for kind in ACTIONS
        for key in KEYS
        for capability in (CAPABILITIES if kind == UPDATE_MICROGRID_STATE else (None,))
        for scale in ((None,) if kind == UPDATE_CIRCUIT_CAPACITY else (None, 0.5))
    ),
    sources=(BATTERY,),
    gateway=Gateway("gw", "Gateway", "model", {"GEN": "UPDATE_POWER_SOURCE_LOAD"}, {"GEN": "bess"}),
    points=(control_point("PEAK_SHAVING", measurand="BESS_OPERATIONAL_MODE"), control_point("DER", measurand="ANY")),
)
values = st.booleans() | st.floats(-1e6, 1e6) | st.sampled_from(["ON", "FAULT", "IDLE", "text", *MODES])
units = st.sampled_from(["W", "kW", "MW", "%", "C"])
qualities = st.sampled_from(["GOOD", "UNCERTAIN", "BAD"])
capacities = st.floats(0, 1000)


@st.composite
def packets(draw: st.DrawFn) -> dict[str, Members]:
    """Members of measurands by key, not all of them acceptable."""
    said: dict[str, Members] = {}
    for key in draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=5)):
        said[key] = {"value": draw(values), "quality": draw(qualities)}
        if draw(st.booleans()):
            said[key]["unit"] = draw(units)
    for key, value in (
        ("HEARTBEAT_STATUS", st.booleans()),
        ("FAIL_SAFE_CAPACITY", capacities),
        ("AVAILABLE_CHARGING_CAPACITY", capacities),
    ):
        if draw(st.booleans()):
            said[key] = {"value": draw(value)}
    return said or {"ANY": {"value": 1}}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(packets(), st.sampled_from([0, 1, 59, 61, 200]), st.sampled_from([0, 0, 50, 70])), min_size=1, max_size=6)
)
def test_every_event_of_a_report_is_valid(history: list[tuple[dict[str, Members], int, int]]) -> None:
    healths: dict[str, ControllerHealth] = {}
    now = NOW
    for number, (said, wait_s, delay_s) in enumerate(history):
        now += timedelta(seconds=wait_s)
        events: list[Event] = []
        for key, health in healths.items():
            healths[key], lapsed = lapse(health, CircuitLimits(500.0, None), now)
            events += lapsed
        sent = packet(
            *({"key": key, **rest} for key, rest in said.items()),
            packet_id=f"packet-{number}",
            sent_at=now - timedelta(seconds=delay_s),
            received_at=now,
        )
        for step in report(sent, plan(WITH_EVERYTHING), now, {"source": "test"}):
            if isinstance(step, Reported):
                events.append(step.event)
            elif isinstance(step, CapacityStep):
                key = step.action.sensor_action_id or ""
                decision = decide(healths.get(key) or new_health(step), step, now)
                healths[key] = decision.health
                events += [*decision.transitions, *([decision.reported.event] if decision.reported else [])]
        for event in events:
            assert validate_event(event) == [], as_document(event)


def changed(change: MicrogridChange) -> Event:
    return Event(MICROGRID_ID, change.event_type, "depot", MICROGRID_ID, None, False, NOW, NOW, None, change.payload, {})


circuits = st.lists(
    st.builds(Circuit, st.sampled_from("abc"), st.none(), st.sampled_from(["", "North", "Süd 😀"]), st.integers(-2, 2)),
    unique_by=lambda circuit: circuit.circuit_id,
)


@given(circuits, circuits)
def test_every_event_of_a_microgrid_is_valid(before: list[Circuit], after: list[Circuit]) -> None:
    numbers = itertools.count(1)

    def new_id() -> str:
        return f"00000000-0000-7000-8000-{next(numbers):012d}"

    made = provision(before, new_id)
    if made is None:
        return
    reconciled = reconcile(made.microgrid, after, new_id)
    ending = retired(reconciled.microgrid, "DEPOT_DELETED")
    for change in (*made.changes, *reconciled.changes, resynced(reconciled), ending):
        assert validate_event(changed(change)) == [], json.dumps(change.payload)


@pytest.mark.parametrize("event_type", [one for one in EVENT_TYPES if one.startswith("ControllerBinding")])
@pytest.mark.parametrize("node_id", [None, NODE_ID])
def test_every_event_of_a_binding_is_valid(event_type: str, node_id: str | None) -> None:
    point = control_point("DER", node_id=node_id, enabled=False)
    assert validate_event(changed(MicrogridChange(event_type, binding_payload(point)))) == []


@pytest.mark.parametrize("node_id", [None, NODE_ID])
def test_the_event_of_a_capability_with_another_owner_is_valid(node_id: str | None) -> None:
    payload = move_payload(control_point("DER", "old", node_id=node_id), control_point("DER", "new", node_id=node_id))
    assert (payload["from_device_id"], payload["to_device_id"]) == ("old", "new")
    assert validate_event(changed(MicrogridChange("CapabilityOwnershipMoved", payload))) == []
