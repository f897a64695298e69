"""Bindings, sensor actions, what devices say and site documents in any order: they always tell the same, and so does history."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.site_operations.depots import fresh_id

from event_store.database import Connection, Pool, open_pool
from microgrid.controller_bindings import controller_bindings
from microgrid.site_model import UPDATE_MICROGRID_STATE, ControlPoint, Site
from site_operations.change_site import change_thing, create_thing, delete_thing
from site_operations.controller_bindings import change_binding, create_binding, delete_binding, take_over
from site_operations.device_capabilities import report_capabilities
from site_operations.import_site import import_within
from site_registry.load import load_site
from site_registry.site_file import export_site, parse_site

NOW = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)
_depot_numbers = itertools.count(1)

devices = st.sampled_from(["any", "mon", "ctrl"])
measurands = st.sampled_from(["PEAK_SHAVING", "DER", "BESS_OPERATIONAL_MODE", "FLAG"])
capabilities = st.sampled_from(["PEAK_SHAVING", "DER"])
feeds = st.dictionaries(capabilities, measurands, min_size=1)
which = st.integers(0, 5)
stale = st.sampled_from([60, 300])
scoped = st.sampled_from([False, False, True])
profiles = st.sampled_from(["generic", "sitepwrmon", "bba-microgrid-controller"])
documents = st.fixed_dictionaries(
    {},
    optional={
        "actions": st.lists(st.tuples(devices, measurands, capabilities, st.booleans()), max_size=3),
        "bindings": st.lists(st.tuples(devices, feeds, st.booleans(), stale, scoped), max_size=3),
    },
)
steps = st.one_of(
    st.tuples(st.just("bind"), devices, feeds, st.booleans(), stale, scoped),
    st.tuples(
        st.just("change"),
        which,
        st.fixed_dictionaries({}, optional={"enabled": st.booleans(), "stale_after_s": stale, "feeds": feeds}),
    ),
    st.tuples(st.just("unbind"), which),
    st.tuples(st.just("take over"), which, devices),
    st.tuples(st.just("add action"), devices, measurands, capabilities, st.booleans(), scoped),
    st.tuples(
        st.just("edit action"), which, st.fixed_dictionaries({}, optional={"enabled": st.booleans(), "measurand": measurands})
    ),
    st.tuples(st.just("delete action"), which),
    st.tuples(st.just("say"), devices, st.lists(measurands, unique=True)),
    st.tuples(st.just("profile"), devices, profiles),
    st.tuples(st.just("import"), documents, st.booleans()),
    st.tuples(st.just("export and import"), st.booleans()),
)


class Depot:
    """A depot with three devices, and the steps as commands of one transaction each."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.depot_id = f"views-{next(_depot_numbers)}"

    def full(self, device_id: str) -> str:
        return f"{self.depot_id}.{device_id}"

    async def begin(self) -> None:
        given_devices = (("any", None), ("mon", "sitepwrmon"), ("ctrl", "bba-microgrid-controller"))
        document = {
            "depot": {"depot_id": self.depot_id, "name": "D", "timezone": "UTC"},
            "circuits": [{"circuit_id": self.full("gc"), "name": "Grid"}],
            "gateways": [{"gateway_id": self.full("gw"), "name": "G"}],
            "devices": [
                {"device_id": self.full(name), "gateway_id": self.full("gw"), **({"profile": profile} if profile else {})}
                for name, profile in given_devices
            ],
        }
        await self.do(lambda connection: self.import_document(connection, document, prune=False))

    async def do(self, work: Callable[[Connection], Any]) -> object:
        async with self.pool.acquire() as connection, connection.transaction():
            return await work(connection)

    async def site(self) -> Site:
        async with self.pool.acquire() as connection:
            site = await load_site(connection, self.depot_id)
        assert site is not None
        return site

    async def import_document(self, connection: Connection, document: dict[str, Any], *, prune: bool) -> object:
        parsed = parse_site(document)
        if isinstance(parsed, list):
            return parsed
        return await import_within(connection, parsed, prune=prune, now=NOW, new_id=fresh_id)

    async def step(self, step: tuple[Any, ...], site: Site) -> object:
        name, *rest = step
        assert site.microgrid is not None
        node_id = site.microgrid.nodes[0].node_id
        bindings = [binding.controller_binding_id for binding in controller_bindings(site.microgrid.control_points)]
        feeding = [action.sensor_action_id for action in site.sensor_actions if action.action == UPDATE_MICROGRID_STATE]
        told: dict[str, Any] = {"now": NOW, "new_id": fresh_id}
        any_version: dict[str, Any] = {"holds": _always, **told}
        match name, rest:
            case "bind", [device, fed, enabled, stale_after_s, in_node]:
                body = self.binding(device, fed, enabled, stale_after_s, node_id if in_node else None)
                return await self.do(lambda c: create_binding(c, self.depot_id, body, sees=_always, **told))
            case "change", [number, changes] if bindings:
                body = {name: value for name, value in changes.items() if name != "feeds"}
                if "feeds" in changes:
                    body["capabilities"] = _fed(changes["feeds"])
                binding_id = _one_of(bindings, number)
                return await self.do(lambda c: change_binding(c, binding_id, body, **any_version))
            case "unbind", [number] if bindings:
                binding_id = _one_of(bindings, number)
                return await self.do(lambda c: delete_binding(c, binding_id, **any_version))
            case "take over", [number, device] if bindings:
                binding_id = _one_of(bindings, number)
                body = {"expected_device_id": self.full(device)}
                return await self.do(lambda c: take_over(c, binding_id, body, **any_version))
            case "add action", [device, measurand, capability, enabled, in_node]:
                body = self.action(device, measurand, capability, enabled)
                body["node_id"] = node_id if in_node else None
                return await self.do(lambda c: create_thing(c, "sensor_action", body, sees=_always, **told))
            case "edit action", [number, changes] if feeding:
                action_id = _one_of(feeding, number)
                return await self.do(lambda c: change_thing(c, "sensor_action", action_id, changes, **told))
            case "delete action", [number] if feeding:
                action_id = _one_of(feeding, number)
                return await self.do(lambda c: delete_thing(c, "sensor_action", action_id, **told))
            case "say", [device, keys]:
                types = {"BESS_OPERATIONAL_MODE": "text"}
                body = {"measurands": [{"key": key, "type": types.get(key, "boolean")} for key in keys]}
                return await self.do(lambda c: report_capabilities(c, self.full(device), body, **told))
            case "profile", [device, profile]:
                return await self.do(lambda c: change_thing(c, "device", self.full(device), {"profile": profile}, **told))
            case "import", [document, prune]:
                return await self.import_step(site, document, node_id, prune=prune)
            case "export and import", [prune]:
                return await self.do(lambda c: self.import_document(c, export_site(site), prune=prune))
            case _:
                return None

    async def import_step(self, site: Site, said: dict[str, Any], node_id: str, *, prune: bool) -> object:
        document = export_site(site)
        document["sensor_actions"] = [self.action(*one) for one in said.get("actions", [])]
        document["controller_bindings"] = [
            self.binding(device, fed, enabled, stale_after_s, node_id if in_node else None)
            for device, fed, enabled, stale_after_s, in_node in said.get("bindings", [])
        ]
        return await self.do(lambda c: self.import_document(c, document, prune=prune))

    def action(self, device: str, measurand: str, capability: str, enabled: bool) -> dict[str, Any]:
        return {
            "device_id": self.full(device),
            "measurand": measurand,
            "action": UPDATE_MICROGRID_STATE,
            "capability": capability,
            "enabled": enabled,
        }

    def binding(self, device: str, fed: dict[str, str], enabled: bool, stale_after_s: int, node_id: str | None) -> dict[str, Any]:
        return {
            "device_id": self.full(device),
            "capabilities": _fed(fed),
            "enabled": enabled,
            "stale_after_s": stale_after_s,
            "node_id": node_id,
        }


def _always(_: object) -> bool:
    return True


def _one_of(ids: list[str], number: int) -> str:
    return ids[number % len(ids)]


def _fed(fed: dict[str, str]) -> list[dict[str, str]]:
    return [{"capability": capability, "measurand": measurand} for capability, measurand in fed.items()]


def disagreements(site: Site) -> list[str]:
    """Where actions and control points do not tell the same."""
    assert site.microgrid is not None
    found: list[str] = []
    points = {(point.device_id, point.capability, point.node_id): point for point in site.microgrid.control_points}
    by_key: dict[tuple[str, str, str | None], list[tuple[str, bool]]] = {}
    for action in site.sensor_actions:
        if action.action == UPDATE_MICROGRID_STATE:
            key = (action.device_id, action.capability or "", action.node_id)
            by_key.setdefault(key, []).append((action.measurand, action.enabled))
    for key, point in points.items():
        actions = by_key.get(key, [])
        if (point.measurand, point.enabled) not in actions:
            found.append(f"no action feeds {point} as it is: {actions}")
        if any(enabled and (measurand, enabled) != (point.measurand, point.enabled) for measurand, enabled in actions):
            found.append(f"another action is enabled beside {point}: {actions}")
    for key, actions in by_key.items():
        if key not in points and any(enabled for _, enabled in actions):
            found.append(f"an action is enabled that is not bound: {key} {actions}")
    owners = [(point.capability, point.node_id) for point in points.values() if point.enabled]
    if len(owners) != len(set(owners)):
        found.append(f"a capability has two owners: {owners}")
    for binding in controller_bindings(points.values()):
        members = [point for point in points.values() if point.controller_binding_id == binding.controller_binding_id]
        if len(members) != len(binding.points) or {point.binding_version for point in members} != {binding.version}:
            found.append(f"a binding is not of one piece: {members}")
    return found


async def points_by_history(pool: Pool, depot_id: str) -> tuple[dict[str, ControlPoint], dict[tuple[str, str | None], str]]:
    """The control points, and who owns what, as the events of the depot tell."""
    rows = await pool.fetch(
        "SELECT event_type, payload FROM event_store WHERE depot_id = $1 ORDER BY transaction_id, global_position", depot_id
    )
    points: dict[str, ControlPoint] = {}
    moved: dict[tuple[str, str | None], str] = {}
    for event_type, payload in rows:
        if event_type == "ControllerBindingDeleted":
            del points[payload["control_point_id"]]
        elif event_type.startswith("ControllerBinding"):
            points[payload["control_point_id"]] = ControlPoint(**payload)
        elif event_type == "CapabilityOwnershipMoved":
            moved[payload["capability"], payload["node_id"]] = payload["to_device_id"]
            assert points[payload["to_control_point_id"]].enabled
    return points, moved


def test_bindings_actions_and_history_agree_after_every_step_and_refusals_change_nothing(database_url: str) -> None:
    with asyncio.Runner() as runner:
        pool = runner.run(open_pool(database_url, "test", max_size=2))

        async def play(played: list[tuple[Any, ...]]) -> None:
            depot = Depot(pool)
            await depot.begin()
            before = await depot.site()
            assert disagreements(before) == []
            tellable = True
            for step in played:
                outcome = await depot.step(step, before)
                after = await depot.site()
                assert disagreements(after) == [], (step, outcome)
                refused = (
                    outcome is None or isinstance(outcome, list) or hasattr(outcome, "faults") or hasattr(outcome, "contested")
                )
                # A document can not tell that an action which a profile gives is gone.
                tellable = tellable and step[0] not in ("edit action", "delete action")
                if refused or (step[0] == "export and import" and tellable):
                    assert _rows(after) == _rows(before), (step, outcome)
                before = after
            points, _ = await points_by_history(pool, depot.depot_id)
            assert before.microgrid is not None
            assert sorted(points.values(), key=lambda point: point.control_point_id) == list(before.microgrid.control_points)

        @settings(
            max_examples=60,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        )
        @given(st.lists(steps, max_size=12))
        def whatever_happens(played: list[tuple[Any, ...]]) -> None:
            runner.run(play(played))

        try:
            whatever_happens()
        finally:
            runner.run(pool.close())


def _rows(site: Site) -> object:
    """What is stored of a depot, with the ids and versions of bindings, and without who gave an action."""
    assert site.microgrid is not None
    shown = [(point, point.controller_binding_id, point.binding_version) for point in site.microgrid.control_points]
    return [replace(action, origin="") for action in site.sensor_actions], shown
