"""What in a site document contradicts itself: references that lead nowhere, ids that stand twice, bindings that can not be.

Runs over the raw document, whether or not its shape is right, so that a person sees every fault at once; what is not of the
expected type is passed over here, since the schema has already named it. A site document stands for a whole depot, so everything
that it refers to must stand in it. Nodes of the microgrid are the exception, since they exist only once the depot is stored.

Which measurand may feed a capability: any boolean of the device's profile, and the battery's mode. A device without a profile, or
with one that assumes nothing, may use any measurand that the catalogue does not know as something else.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast
from zoneinfo import available_timezones

from microgrid.site_model import CAPABILITIES, UPDATE_MICROGRID_STATE
from sensor_packet.catalogue import CATALOGUE
from sensor_packet.device_profile import DeviceProfile, load_profiles

MODE = "BESS_OPERATIONAL_MODE"


@dataclass(frozen=True, slots=True)
class SiteFault:
    """One thing wrong with a site document: JSON pointer to it, stable code, a sentence for a person."""

    pointer: str
    code: str
    detail: str


_Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _List:
    """A list of the document, its id field, and what a reference to nothing in it is called."""

    name: str
    id_field: str
    missing_code: str


CIRCUITS = _List("circuits", "circuit_id", "CIRCUIT_NOT_FOUND")
CHARGE_POINTS = _List("charge_points", "charge_point_id", "CHARGE_POINT_NOT_FOUND")
CONNECTORS = _List("connectors", "connector_id", "CONNECTOR_NOT_FOUND")
POWER_SOURCES = _List("power_sources", "power_source_id", "INVALID_POWER_SOURCE")
GATEWAYS = _List("gateways", "gateway_id", "GATEWAY_NOT_FOUND")
DEVICES = _List("devices", "device_id", "UNKNOWN_DEVICE")
_WITH_IDS = (CIRCUITS, CHARGE_POINTS, CONNECTORS, POWER_SOURCES, GATEWAYS, DEVICES)
_REFERENCES = (
    ("circuits", "parent_circuit_id", CIRCUITS),
    ("charge_points", "circuit_id", CIRCUITS),
    ("connectors", "charge_point_id", CHARGE_POINTS),
    ("power_sources", "circuit_id", CIRCUITS),
    ("devices", "gateway_id", GATEWAYS),
    ("devices", "circuit_id", CIRCUITS),
    ("sensor_actions", "device_id", DEVICES),
    ("sensor_actions", "power_source_id", POWER_SOURCES),
    ("sensor_actions", "circuit_id", CIRCUITS),
    ("controller_bindings", "device_id", DEVICES),
)


@cache
def profiles() -> dict[str, DeviceProfile]:
    """The device profiles by name."""
    return load_profiles()


@cache
def _timezones() -> frozenset[str]:
    return frozenset(available_timezones())


def reference_faults(document: object) -> list[SiteFault]:
    """Every fault between the parts of a document, in no particular order."""
    if not isinstance(document, dict):
        return []
    whole = cast("dict[str, Any]", document)
    return [
        *_timezone_faults(whole),
        *_repeated_ids(whole),
        *_dangling_references(whole),
        *_circuit_cycles(whole),
        *_gateway_faults(whole),
        *_profile_faults(whole),
        *_action_faults(whole),
        *_binding_faults(whole),
    ]


def measurand_fault(profile_name: object, capability: str, measurand: str) -> tuple[str, str] | None:
    """Why a measurand of a device of that profile may not feed a capability, as code and detail; None if it may."""
    if capability not in CAPABILITIES:
        return None  # the schema's to say
    if capability not in supported_capabilities(profile_name):
        return "UNSUPPORTED_CAPABILITY", f"a device of profile {profile_name} can not feed {capability}"
    detail = why_not_feeding(profile_name, measurand)
    return None if detail is None else ("MEASURAND_NOT_SUPPORTED", detail)


def supported_capabilities(profile_name: object) -> tuple[str, ...]:
    """What a device of that profile can feed; one without a profile, or with one that assumes nothing, can feed all."""
    profile = _assuming_profile(profile_name)
    if profile is None:
        return CAPABILITIES
    return tuple(one for one in CAPABILITIES if any(one in known.feeds for known in profile.measurands))


def why_not_feeding(profile_name: object, measurand: str) -> str | None:
    """Why a measurand of a device of that profile may feed no capability at all; None if it may."""
    profile = _assuming_profile(profile_name)
    if profile is None:
        known_key = CATALOGUE.get(measurand)
        if known_key is None or "boolean" in known_key.types or measurand == MODE:
            return None
        return f"{measurand} is neither a boolean nor {MODE}"
    known = next((one for one in profile.measurands if one.key == measurand), None)
    if known is None:
        return f"a device of profile {profile.profile} does not send {measurand}"
    return None if known.type == "boolean" or measurand == MODE else f"{measurand} is neither a boolean nor {MODE}"


def _assuming_profile(profile_name: object) -> DeviceProfile | None:
    profile = profiles().get(profile_name) if isinstance(profile_name, str) else None
    return profile if profile is not None and profile.measurands else None


def pointer_to(*parts: str | int) -> str:
    """The JSON pointer of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _items(document: Mapping[str, Any], name: str) -> Iterator[tuple[int, _Item]]:
    found = document.get(name)
    if isinstance(found, list):
        for index, item in enumerate(cast("list[object]", found)):
            if isinstance(item, dict):
                yield index, cast("_Item", item)


def _texts(document: Mapping[str, Any], name: str, field: str) -> set[str]:
    return {item[field] for _, item in _items(document, name) if isinstance(item.get(field), str)}


def _timezone_faults(document: Mapping[str, Any]) -> Iterator[SiteFault]:
    depot = document.get("depot")
    timezone = cast("_Item", depot).get("timezone") if isinstance(depot, dict) else None
    if isinstance(timezone, str) and timezone and timezone not in _timezones():
        near = difflib.get_close_matches(timezone, sorted(_timezones()), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        yield SiteFault("/depot/timezone", "INVALID_VALUE", f"no time zone is called {timezone[:64]!r}{hint}")


def _repeated_ids(document: Mapping[str, Any]) -> Iterator[SiteFault]:
    for each in _WITH_IDS:
        first: dict[str, int] = {}
        for index, item in _items(document, each.name):
            given = item.get(each.id_field)
            if not isinstance(given, str):
                continue
            if given in first:
                detail = f"{given} already stands at /{each.name}/{first[given]}"
                yield SiteFault(pointer_to(each.name, index, each.id_field), "ALREADY_EXISTS", detail)
            else:
                first[given] = index


def _dangling_references(document: Mapping[str, Any]) -> Iterator[SiteFault]:
    known = {each.name: _texts(document, each.name, each.id_field) for each in _WITH_IDS}
    for name, field, to in _REFERENCES:
        for index, item in _items(document, name):
            given = item.get(field)
            if isinstance(given, str) and given not in known[to.name]:
                detail = f"the document has no {to.id_field} {given[:64]} under {to.name}"
                yield SiteFault(pointer_to(name, index, field), to.missing_code, detail)


def _circuit_cycles(document: Mapping[str, Any]) -> Iterator[SiteFault]:
    parents: dict[str, str] = {}
    for _, item in _items(document, "circuits"):
        given, parent = item.get("circuit_id"), item.get("parent_circuit_id")
        if isinstance(given, str) and isinstance(parent, str):
            parents.setdefault(given, parent)
    on_cycle: dict[str, list[str]] = {}
    done: set[str] = set()
    for start in parents:
        path: list[str] = []
        at: str | None = start
        while at is not None and at not in done:
            done.add(at)
            path.append(at)
            at = parents.get(at)
        if at in path:
            cycle = path[path.index(at) :]
            on_cycle.update(dict.fromkeys(cycle, cycle))
    for index, item in _items(document, "circuits"):
        given = item.get("circuit_id")
        if isinstance(given, str) and given in on_cycle and item.get("parent_circuit_id") == parents[given]:
            cycle = on_cycle[given]
            turned = cycle[cycle.index(given) :] + cycle[: cycle.index(given) + 1]
            yield SiteFault(pointer_to("circuits", index, "parent_circuit_id"), "CIRCUIT_CYCLE", " is under ".join(turned))


def _gateway_faults(document: Mapping[str, Any]) -> Iterator[SiteFault]:
    sources = _texts(document, "power_sources", "power_source_id")
    for index, gateway in _items(document, "gateways"):
        if gateway.get("model_outputs") and not gateway.get("site_model_name"):
            detail = "model outputs belong to a gateway with a site_model_name"
            yield SiteFault(pointer_to("gateways", index, "model_outputs"), "MODEL_OUTPUT_WITHOUT_MODEL", detail)
        translation = gateway.get("output_translation")
        if isinstance(translation, dict):
            for measurand, source in cast("dict[str, object]", translation).items():
                if isinstance(source, str) and source not in sources:
                    detail = f"the document has no power source {source[:64]}"
                    yield SiteFault(pointer_to("gateways", index, "output_translation", measurand), "INVALID_POWER_SOURCE", detail)


def _profile_faults(document: Mapping[str, Any]) -> Iterator[SiteFault]:
    for index, device in _items(document, "devices"):
        profile = device.get("profile")
        if isinstance(profile, str) and profile not in profiles():
            detail = f"no profile is called {profile[:64]!r}; there are {', '.join(profiles())}"
            yield SiteFault(pointer_to("devices", index, "profile"), "UNKNOWN_PROFILE", detail)


def _profile_of(document: Mapping[str, Any]) -> dict[str, object]:
    return {
        device["device_id"]: device.get("profile")
        for _, device in _items(document, "devices")
        if isinstance(device.get("device_id"), str)
    }


def _action_faults(document: Mapping[str, Any]) -> Iterator[SiteFault]:
    profile_of = _profile_of(document)
    first: dict[tuple[object, ...], int] = {}
    fed_by: dict[tuple[object, ...], tuple[int, object]] = {}
    for index, entry in _items(document, "sensor_actions"):
        device, measurand, action, capability = (entry.get(f) for f in ("device_id", "measurand", "action", "capability"))
        if not isinstance(device, str) or not isinstance(measurand, str) or not isinstance(action, str):
            continue
        here = pointer_to("sensor_actions", index)
        key = (device, measurand, action, *(str(entry.get(f)) for f in ("capability", "node_id", "power_source_id", "circuit_id")))
        if key in first:
            yield SiteFault(here, "ALREADY_EXISTS", f"the same action already stands at /sensor_actions/{first[key]}")
            continue
        first[key] = index
        if (action == UPDATE_MICROGRID_STATE) != (capability is not None):
            detail = f"{UPDATE_MICROGRID_STATE}, and no other action, names a capability"
            yield SiteFault(here + "/capability", "INVALID_VALUE", detail)
        if action != UPDATE_MICROGRID_STATE or not isinstance(capability, str):
            continue
        if device in profile_of and (fault := measurand_fault(profile_of[device], capability, measurand)):
            at = "/capability" if fault[0] == "UNSUPPORTED_CAPABILITY" else "/measurand"
            yield SiteFault(here + at, *fault)
        if entry.get("enabled", True) is True:
            scope = (device, capability, str(entry.get("node_id")))
            if scope in fed_by and fed_by[scope][1] != measurand:
                detail = f"{capability} of {device} is already fed at /sensor_actions/{fed_by[scope][0]}; one measurand feeds it"
                yield SiteFault(here + "/measurand", "INVALID_VALUE", detail)
            fed_by.setdefault(scope, (index, measurand))


def _scope_of(entry: _Item) -> tuple[object, object, str]:
    return (entry.get("device_id"), entry.get("capability"), str(entry.get("node_id")))


def _binding_faults(document: Mapping[str, Any]) -> Iterator[SiteFault]:
    profile_of = _profile_of(document)
    owners: dict[tuple[str, str], tuple[str, str]] = {}
    bound: dict[tuple[str, str, str], str] = {}
    feeding = [entry for _, entry in _items(document, "sensor_actions") if entry.get("action") == UPDATE_MICROGRID_STATE]
    acting = {_scope_of(entry): entry.get("measurand") for entry in feeding if entry.get("enabled", True) is True}
    switched = {(*_scope_of(entry), entry.get("measurand")): entry.get("enabled", True) for entry in feeding}
    for index, binding in _items(document, "controller_bindings"):
        device, node = binding.get("device_id"), str(binding.get("node_id"))
        for number, feed in _items(binding, "capabilities"):
            capability, measurand = feed.get("capability"), feed.get("measurand")
            if not isinstance(device, str) or not isinstance(capability, str) or not isinstance(measurand, str):
                continue
            here = pointer_to("controller_bindings", index, "capabilities", number)
            if device in profile_of and (fault := measurand_fault(profile_of[device], capability, measurand)):
                at = "/capability" if fault[0] == "UNSUPPORTED_CAPABILITY" else "/measurand"
                yield SiteFault(here + at, *fault)
            if (device, node, capability) in bound:
                detail = f"{capability} of {device} is already bound at {bound[device, node, capability]}"
                yield SiteFault(here, "ALREADY_EXISTS", detail)
                continue
            bound[device, node, capability] = here
            if acting.get((device, capability, node), measurand) != measurand:
                detail = (
                    f"a sensor action feeds {capability} of {device} by {acting[device, capability, node]}; one measurand feeds it"
                )
                yield SiteFault(here + "/measurand", "INVALID_VALUE", detail)
            elif switched.get((device, capability, node, measurand), enabled := binding.get("enabled", True)) is not enabled:
                detail = f"the sensor action by which {device} feeds {capability} says otherwise; both have one `enabled`"
                yield SiteFault(pointer_to("controller_bindings", index, "enabled"), "INVALID_VALUE", detail)
            if binding.get("enabled", True) is not True:
                continue
            if (node, capability) in owners and owners[node, capability][0] != device:
                other, there = owners[node, capability]
                detail = f"{capability} is owned by {other} at {there} and claimed by {device}; give one of them enabled: false"
                yield SiteFault(here, "CAPABILITY_SOURCE_CONFLICT", detail)
            owners.setdefault((node, capability), (device, here))
