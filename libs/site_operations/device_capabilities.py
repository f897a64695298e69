"""A device says itself what it measures, and gets its sensor actions generated from that.

What a measurand gets: what the device's profile gives it; for one that the profile does not know, or a device whose profile assumes
nothing, a boolean that is named like a capability feeds that capability, and everything else is recorded.

Said again, it changes nothing that a person edited: only measurands that are new since the device last said so get an action,
so one that somebody deleted stays deleted. A measurand that is gone disables the actions that were generated for it; one that comes
back enables them again. A person's own action for a measurand, or for a capability, stands in the way of generation. A capability
that another device owns is not taken: the action is there, disabled, and the answer says whose it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

from event_store.database import Connection
from microgrid.site_model import CAPABILITIES, RECORD_MEASUREMENT, UPDATE_MICROGRID_STATE, Device, SensorAction, Site
from sensor_packet.catalogue import CATALOGUE
from site_operations.action_binding import follow_actions
from site_operations.change_site import Faulty, NotFound, locked
from site_operations.import_site import SitePlan, store_plan
from site_operations.thing_faults import shape_faults
from site_registry.reported_capabilities import ReportedMeasurand, keep_reported, reported_measurands
from site_registry.site_file import PERSON, SiteFault, generated_actions
from site_registry.site_references import pointer_to, profiles

REPORTED = "REPORTED"
MOST_MEASURANDS = 256

CAPABILITIES_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["measurands"],
    "properties": {
        "measurands": {
            "type": "array",
            "maxItems": MOST_MEASURANDS,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["key", "type"],
                "properties": {
                    "key": {"$ref": "#/$defs/measurand"},
                    "type": {"enum": ["boolean", "number", "text"]},
                    "unit": {
                        "type": ["string", "null"],
                        "maxLength": 64,
                        "pattern": "^[^\\u0000\\ud800-\\udfff]*$",
                        "description": "text of at most 64 characters",
                    },
                },
            },
        }
    },
}


@dataclass(frozen=True, slots=True)
class GeneratedAction:
    """A sensor action as it stands now; `code` and `detail` tell why it could not be enabled, where that is so."""

    action: SensorAction
    code: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a device measures and all the actions that it has now, by measurand."""

    depot_id: str
    device: Device
    measurands: tuple[ReportedMeasurand, ...]
    actions: tuple[GeneratedAction, ...]


async def report_capabilities(
    connection: Connection, device_id: str, body: object, *, now: datetime, new_id: Callable[[], str]
) -> Capabilities | NotFound | Faulty:
    """Take in what a device measures, in the caller's transaction."""
    found = await locked(connection, "device", device_id)
    if found is None:
        return NotFound("device", device_id)
    site, device = found
    faults = shape_faults(CAPABILITIES_SCHEMA, body)
    if not faults:
        faults = _contradictions(cast("dict[str, Any]", body)["measurands"])
    if faults:
        return Faulty(tuple(faults))
    measurands = tuple(
        ReportedMeasurand(one["key"], one["type"], one.get("unit")) for one in cast("dict[str, Any]", body)["measurands"]
    )
    before = await reported_measurands(connection, device_id)
    after, refused = plan_capabilities(site, device, before, measurands, new_id)
    await store_plan(connection, site, SitePlan(after, (), ()), now=now, new_id=new_id)
    await keep_reported(connection, device_id, measurands, now)
    mine = sorted(after.actions_by_device.get(device_id, ()), key=lambda one: (one.measurand, one.sensor_action_id))
    told = tuple(GeneratedAction(action, *refused.get(action.sensor_action_id, (None, None))) for action in mine)
    return Capabilities(site.depot.depot_id, device, measurands, told)


def plan_capabilities(
    site: Site,
    device: Device,
    before: Sequence[ReportedMeasurand] | None,
    measurands: Sequence[ReportedMeasurand],
    new_id: Callable[[], str],
) -> tuple[Site, dict[str, tuple[str, str]]]:
    """The depot as it is to be, and the actions that could not be enabled with code and detail; pure.

    `before` is what the device said last, None where it never did.
    """
    known = {one.key for one in before or ()}
    named = {one.key for one in measurands}
    kept = [_unless_gone(action, device, named) for action in site.sensor_actions]
    site = _followed(site, kept, new_id)
    refused: dict[str, tuple[str, str]] = {}
    for wanted in _generated(device, [one for one in measurands if one.key not in known]):
        row = _settled(site, wanted, returned=before is not None)
        if row is None:
            continue
        row = replace(row, sensor_action_id=row.sensor_action_id or new_id())
        others = [action for action in site.sensor_actions if action.sensor_action_id != row.sensor_action_id]
        points = follow_actions(site, [*others, row], new_id)
        if isinstance(points, SiteFault):
            refused[row.sensor_action_id] = (points.code, points.detail)
            row = replace(row, enabled=False)
        site = _followed(site, [*others, row], new_id)
    for action in site.actions_by_device.get(device.device_id, ()):
        # Said again, it still says whose the capability is.
        if not action.enabled and action.origin != PERSON and action.measurand in named:
            points = follow_actions(site, _enabled(site, action), new_id)
            if isinstance(points, SiteFault):
                refused[action.sensor_action_id] = (points.code, points.detail)
    return site, refused


def _enabled(site: Site, action: SensorAction) -> list[SensorAction]:
    others = [one for one in site.sensor_actions if one.sensor_action_id != action.sensor_action_id]
    return [*others, replace(action, enabled=True)]


def _unless_gone(action: SensorAction, device: Device, named: set[str]) -> SensorAction:
    mine = action.device_id == device.device_id and action.origin != PERSON
    return replace(action, enabled=False) if mine and action.enabled and action.measurand not in named else action


def _followed(site: Site, actions: Sequence[SensorAction], new_id: Callable[[], str]) -> Site:
    ordered = tuple(sorted(actions, key=lambda action: action.sensor_action_id))
    points = follow_actions(site, ordered, new_id)
    if isinstance(points, SiteFault):
        raise RuntimeError(f"nothing was enabled, and yet: {points.detail}")
    microgrid = replace(site.microgrid, control_points=points) if site.microgrid else None
    return replace(site, sensor_actions=ordered, microgrid=microgrid)


def _generated(device: Device, measurands: Sequence[ReportedMeasurand]) -> list[SensorAction]:
    given = {action.measurand: action for action in generated_actions(device)}
    profile = profiles().get(device.profile) if device.profile else None
    assumed = {known.key for known in profile.measurands} if profile else set[str]()
    wanted: list[SensorAction] = []
    for one in measurands:
        if one.key in given:
            wanted.append(given[one.key])
        elif one.key not in assumed:
            feeds = one.type == "boolean" and one.key in CAPABILITIES
            action = SensorAction("", device.device_id, one.key, RECORD_MEASUREMENT, origin=REPORTED)
            wanted.append(replace(action, action=UPDATE_MICROGRID_STATE, capability=one.key) if feeds else action)
    return wanted


def _settled(site: Site, wanted: SensorAction, *, returned: bool) -> SensorAction | None:
    """The row to enable or to make for what is wanted; None where what is there is to stay as it is."""
    mine = site.actions_by_device.get(wanted.device_id, [])
    alike = next((one for one in mine if _does(one) == _does(wanted)), None)
    if alike is not None:
        return replace(alike, enabled=True) if returned and alike.origin != PERSON and not alike.enabled else None
    for one in mine:
        if one.origin == PERSON and (one.measurand == wanted.measurand or _feeds(one) == _feeds(wanted) is not None):
            return None
        if one.enabled and _feeds(one) is not None and _feeds(one) == _feeds(wanted):
            return None
    return wanted


def _does(action: SensorAction) -> tuple[str, str, str | None]:
    return (action.measurand, action.action, action.capability)


def _feeds(action: SensorAction) -> str | None:
    return action.capability if action.action == UPDATE_MICROGRID_STATE and action.node_id is None else None


def _contradictions(measurands: Sequence[dict[str, Any]]) -> list[SiteFault]:
    faults: list[SiteFault] = []
    first: dict[str, int] = {}
    for index, one in enumerate(measurands):
        key, kind = one["key"], one["type"]
        if key in first:
            detail = f"{key} already stands at /measurands/{first[key]}"
            faults.append(SiteFault(pointer_to("measurands", index, "key"), "ALREADY_EXISTS", detail))
        first.setdefault(key, index)
        entry = CATALOGUE.get(key)
        if entry is not None and kind not in entry.types:
            detail = f"{key} is known as {' or '.join(entry.types)} and not as {kind}"
            faults.append(SiteFault(pointer_to("measurands", index, "type"), "INVALID_VALUE", detail))
        elif entry is not None and one.get("unit") is not None and entry.units and one["unit"] not in entry.units:
            detail = f"{key} is taken in {', '.join(sorted(entry.units))} and not in {one['unit']}"
            faults.append(SiteFault(pointer_to("measurands", index, "unit"), "INVALID_VALUE", detail))
    return faults
