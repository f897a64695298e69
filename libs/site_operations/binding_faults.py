"""What is wrong with the body of a command on a controller binding: every fault at once, each with its pointer.

First what the body is at fault in itself, then what stands against the depot. A field that is at fault in itself is not
looked at further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from microgrid.site_model import CAPABILITIES, Device, Site
from site_operations.thing_faults import shape_faults, site_schema
from site_registry.site_file import SiteFault
from site_registry.site_references import pointer_to, supported_capabilities, why_not_feeding

_ENTRY: dict[str, Any] = site_schema()["properties"]["controller_bindings"]["items"]
_NODE = {"type": ["string", "null"], "maxLength": 64, "x-code": "UNKNOWN_NODE"}
_CHANGEABLE = {
    name: {key: value for key, value in _ENTRY["properties"][name].items() if key != "default"}
    for name in ("enabled", "stale_after_s", "capabilities")
}

CREATION_SCHEMA: dict[str, Any] = {**_ENTRY, "properties": {**_ENTRY["properties"], "node_id": _NODE}}
"""A binding as a site file has it; a node that can be none is an unknown one."""
CHANGE_SCHEMA: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": _CHANGEABLE}
"""Any of its fields but those that tell which binding it is; `capabilities` are all that it then has."""
TAKE_OVER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["expected_device_id"],
    "properties": {"expected_device_id": {"$ref": "#/$defs/identifier"}},
}


def creation_faults(site: Site, body: object, depot_of_device: str | None) -> list[SiteFault]:
    """The faults of a new binding in a depot, by pointer.

    `depot_of_device` is where the body's device is, None where there is none that the caller may see.
    """
    faults = shape_faults(CREATION_SCHEMA, body)
    fields = fields_of(body)
    found: list[SiteFault] = []
    if site.microgrid is None:
        detail = f"depot {site.depot.depot_id} has no microgrid yet; its first top-level circuit makes it"
        found.append(SiteFault("/path/depot_id", "MICROGRID_NOT_FOUND", detail))
    device_id = fields.get("device_id")
    device = site.device_by_id.get(device_id) if isinstance(device_id, str) else None
    if isinstance(device_id, str):
        found += _device_faults(site, device_id, device, depot_of_device)
    node_id = fields.get("node_id")
    nodes = {node.node_id for node in site.microgrid.nodes} if site.microgrid else set[str]()
    if isinstance(node_id, str) and node_id not in nodes:
        found.append(SiteFault("/node_id", "UNKNOWN_NODE", f"the depot's microgrid has no node {node_id[:64]}"))
    found += _capability_faults(device.profile if device else None, fields.get("capabilities"))
    return _together(faults, found)


def change_faults(device: Device | None, body: object, *, enables: bool) -> list[SiteFault]:
    """The faults of a change of a device's binding, by pointer; `enables` tells whether it switches the binding on."""
    faults = shape_faults(CHANGE_SCHEMA, body)
    found = _capability_faults(device.profile if device else None, fields_of(body).get("capabilities"))
    if enables and device is not None and not device.enabled:
        found.append(disabled_fault("/enabled", device.device_id))
    return _together(faults, found)


def take_over_faults(device: Device | None, body: object) -> list[SiteFault]:
    """The faults of a take-over by a device's binding."""
    faults = shape_faults(TAKE_OVER_SCHEMA, body)
    return _together(faults, [disabled_fault("", device.device_id)] if device is not None and not device.enabled else [])


def disabled_fault(pointer: str, device_id: str) -> SiteFault:
    """A device that is disabled feeds nothing."""
    return SiteFault(pointer, "DEVICE_DISABLED", f"device {device_id} is disabled; enable it first")


def _device_faults(site: Site, device_id: str, device: Device | None, depot_of_device: str | None) -> list[SiteFault]:
    if device is not None:
        return [] if device.enabled else [disabled_fault("/device_id", device_id)]
    if depot_of_device is None or depot_of_device == site.depot.depot_id:
        return [SiteFault("/device_id", "UNKNOWN_DEVICE", f"there is no device {device_id[:64]}")]
    return [SiteFault("/device_id", "DEVICE_OF_OTHER_DEPOT", f"device {device_id} is of depot {depot_of_device}")]


def _capability_faults(profile_name: str | None, capabilities: object) -> list[SiteFault]:
    faults: list[SiteFault] = []
    first: dict[str, int] = {}
    for index, feed in enumerate(cast("list[object]", capabilities) if isinstance(capabilities, list) else []):
        if not isinstance(feed, dict):
            continue
        capability, measurand = (cast("Mapping[str, object]", feed).get(name) for name in ("capability", "measurand"))
        here = pointer_to("capabilities", index)
        if isinstance(capability, str) and capability in CAPABILITIES:
            if capability in first:
                detail = f"{capability} already stands at /capabilities/{first[capability]}; one measurand feeds it"
                faults.append(SiteFault(f"{here}/capability", "INVALID_VALUE", detail))
            elif capability not in supported_capabilities(profile_name):
                detail = f"a device of profile {profile_name} can not feed {capability}"
                faults.append(SiteFault(f"{here}/capability", "UNSUPPORTED_CAPABILITY", detail))
            first.setdefault(capability, index)
        if isinstance(measurand, str) and (why := why_not_feeding(profile_name, measurand)) is not None:
            faults.append(SiteFault(f"{here}/measurand", "MEASURAND_NOT_SUPPORTED", why))
    return faults


def fields_of(body: object) -> Mapping[str, Any]:
    """The members of a body; none where it is no object."""
    return cast("Mapping[str, Any]", body) if isinstance(body, dict) else {}


def _together(faults: Sequence[SiteFault], found: Sequence[SiteFault]) -> list[SiteFault]:
    told = {fault.pointer for fault in faults}
    return sorted(
        [*faults, *(fault for fault in found if fault.pointer not in told)], key=lambda fault: (fault.pointer, fault.code)
    )
