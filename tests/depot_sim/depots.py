"""Depots and scenarios for tests: small ones, and those that travel with the product, without a product to ask."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from depot_sim.configuration import Depot, depot_from
from depot_sim.presets import preset_site, preset_text
from depot_sim.scenario import Scenario, read_scenario
from sensor_packet.device_profile import load_profiles
from site_registry.site_file import SiteDocument, parse_site

_HEAD = """\
scenario: small
title: a small one
depot: depot-1
seed: 1
start: 2026-11-20T09:00:00+08:00
step: 1s
duration: 10s
"""


def small(body: str, **head: str) -> Scenario:
    """The scenario of a body under a usual head."""
    scenario = read_scenario(text_of(body, **head))
    assert isinstance(scenario, Scenario), scenario
    return scenario


def text_of(body: str, **head: str) -> str:
    """The text of a scenario: a usual head, with some lines of it replaced, and a body."""
    lines = [f"{name}: {head.get(name, value)}" for name, value in (line.split(": ", 1) for line in _HEAD.splitlines())]
    return "\n".join([*lines, body])


def preset(name: str) -> Scenario:
    """A preset."""
    scenario = read_scenario(preset_text(name))
    assert isinstance(scenario, Scenario), scenario
    return scenario


def preset_depot(name: str) -> Depot:
    """The depot of a preset as the read API would tell it after an import."""
    document = parse_site(preset_site(name))
    assert isinstance(document, SiteDocument), document
    return depot_of(document)


def depot_of(document: SiteDocument) -> Depot:
    """The depot of a site file: what is written there wins over what the profile says, by measurand and by capability."""
    actions: list[dict[str, Any]] = [{"enabled": True, **asdict(action)} for action in document.sensor_actions]
    for binding in document.controller_bindings:
        actions += [
            {"device_id": binding.device_id, "action": "UPDATE_MICROGRID_STATE", "enabled": binding.enabled, **asdict(one)}
            for one in binding.capabilities
        ]
    profiles = load_profiles()
    for device in document.devices:
        written = {(one["measurand"], one["device_id"]) for one in actions}
        fed = {one.get("capability") for one in actions if one["device_id"] == device.device_id}
        for one in profiles[device.profile].measurands if device.profile else ():
            if (
                one.action is None
                or (one.key, device.device_id) in written
                or (one.action.capability and one.action.capability in fed)
            ):
                continue
            actions.append({"device_id": device.device_id, "measurand": one.key, "enabled": True, **_fields(one.action)})
    return depot_from({name: _listed(value) for name, value in vars_of(document).items()}, actions)


def vars_of(document: SiteDocument) -> dict[str, Any]:
    """The lists of a site file by name."""
    names = ("depot", "circuits", "power_sources", "gateways", "devices")
    return {name: getattr(document, name) for name in names}


def _listed(value: Any) -> Any:
    if not isinstance(value, tuple):
        return asdict(value)
    items: tuple[Any, ...] = value  # pyright: ignore[reportUnknownVariableType] - dataclasses of a site file
    return [asdict(one) for one in items]


def _fields(action: Any) -> dict[str, Any]:
    return {"action": action.action, "capability": action.capability}
