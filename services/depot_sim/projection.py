"""Packets from state: what each device of a depot says of a moment, by what it is configured to send.

| measurand | from |
|---|---|
| `AVAILABLE_CHARGING_CAPACITY`, `FAIL_SAFE_CAPACITY`, `HEARTBEAT_STATUS` | the controller |
| `PEAK_SHAVING`, `DER`, `LIMIT_DER_EXPORT` | the controller |
| `SOC`, `DISPATCH_STATE`, `IMPORT_ENERGY`, `EXPORT_ENERGY` | the battery |
| `BESS_OPERATIONAL_MODE` | the battery and the controller's flags, by the table of the contract; also where parts are not known |
| `DEVICE_POWER_STATE` | the battery, or the solar plant where the device is about that |
| `ACTIVE_POWER` | battery, sun or grid, whichever the device is about; where it is only recorded, the site's load |
| a model output | state or power of the power source that it is translated to |

What is not known is left out; a device with nothing to say sends no packet. A controller that is silent sends none either.

A configuration carries a scenario when every value that the scenario tells reaches somebody, and everything that it expects can be
there. `missing` names all that is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from depot_sim.configuration import CAPABILITY_ACTION, RECORD_ACTION, Action, Depot, PlayedDevice
from depot_sim.scenario import Scenario
from depot_sim.state_variables import Value
from sensor_packet.battery_mode import battery_mode
from sensor_packet.catalogue import CATALOGUE

_PLAIN = {
    "AVAILABLE_CHARGING_CAPACITY": "available_kw",
    "FAIL_SAFE_CAPACITY": "fail_safe_kw",
    "HEARTBEAT_STATUS": "heartbeat",
    "PEAK_SHAVING": "peak_shaving",
    "DER": "der",
    "LIMIT_DER_EXPORT": "limit_der_export",
    "SOC": "soc_pct",
    "DISPATCH_STATE": "dispatch",
    "IMPORT_ENERGY": "import_kwh",
    "EXPORT_ENERGY": "export_kwh",
}
_POWER = {"BATTERY": "battery_kw", "SOLAR": "solar_kw", "GRID": "grid_kw"}
_POWER_STATE = {"BATTERY": "battery_power_state", "SOLAR": "solar_power_state"}
_CARRIED_BY: Mapping[str, tuple[str, ...]] = {
    "controller.heartbeat": ("HEARTBEAT_STATUS",),
    "controller.available_kw": ("AVAILABLE_CHARGING_CAPACITY",),
    "controller.peak_shaving": ("PEAK_SHAVING", "BESS_OPERATIONAL_MODE"),
    "controller.der": ("DER", "BESS_OPERATIONAL_MODE"),
    "controller.limit_der_export": ("LIMIT_DER_EXPORT",),
    "battery.power_state": ("DEVICE_POWER_STATE", "BESS_OPERATIONAL_MODE"),
    "battery.dispatch": ("DISPATCH_STATE", "BESS_OPERATIONAL_MODE"),
    "battery.soc_pct": ("SOC",),
    "battery.power_kw": ("ACTIVE_POWER", "SOC", "DISPATCH_STATE"),
    "solar.power_kw": ("ACTIVE_POWER",),
}


def say(device: PlayedDevice, state: Mapping[str, Value]) -> list[dict[str, Any]]:
    """The measurands that a device sends of a state, in the order of their keys; none where it has nothing to say."""
    if device.is_controller and state.get("silent") is True:
        return []
    said: list[dict[str, Any]] = []
    for measurand in device.measurands:
        value = _value(device, measurand, state)
        if value is None:
            continue
        entry = CATALOGUE.get(measurand)
        unit = entry.unit if entry is not None else "kW" if not isinstance(value, bool | str) else None
        said.append({"key": measurand, "value": value, **({"unit": unit} if unit else {})})
    return said


def _value(device: PlayedDevice, measurand: str, state: Mapping[str, Value]) -> Value:
    if measurand in _PLAIN:
        return state.get(_PLAIN[measurand])
    if measurand == "BESS_OPERATIONAL_MODE":
        return _mode(state)
    action = next((one for one in device.actions if one.measurand == measurand), None)
    if action is None:
        return None
    if measurand == "DEVICE_POWER_STATE" or (action.is_output and action.action.endswith("_STATE")):
        return state.get(_POWER_STATE.get(device.about(measurand) or "BATTERY", ""))
    if measurand == "ACTIVE_POWER" or action.is_output:
        return state.get(_power_of(device, action))
    return None


def _power_of(device: PlayedDevice, action: Action) -> str:
    recorded_only = all(one.action == RECORD_ACTION for one in device.actions if one.measurand == action.measurand)
    return "load_kw" if recorded_only else _POWER.get(device.about(action.measurand) or "", "")


def _mode(state: Mapping[str, Value]) -> str | None:
    if "battery_power_state" not in state:
        return None
    power, dispatch = state["battery_power_state"], state["dispatch"]
    flags = [state.get(name) for name in ("peak_shaving", "der")]
    known = [flag if isinstance(flag, bool) else None for flag in flags]
    return battery_mode(power if isinstance(power, str) else None, dispatch if isinstance(dispatch, str) else None, *known).mode


def missing(scenario: Scenario, depot: Depot) -> list[str]:
    """Everything that a depot lacks to carry a scenario, a sentence each; none where it can."""
    if not depot.devices:
        return [f"depot {depot.depot_id} has no enabled device"]
    found = [
        f"{variable} is told, and no device of depot {depot.depot_id} sends {' or '.join(keys)}"
        for variable, keys in _CARRIED_BY.items()
        if variable in scenario.told and not any(_sends(device, variable, key) for device in depot.devices for key in keys)
    ]
    if "controller.heartbeat" in scenario.told or "controller.available_kw" in scenario.told:
        found += _missing_for_capacity(scenario, depot)
    for expectation in scenario.expectations:
        why = _missing_for(expectation.asked.root, expectation.asked.name, depot)
        if why is not None:
            found.append(f"{expectation.asked.path} is expected, and {why}")
    return list(dict.fromkeys(found))


def _sends(device: PlayedDevice, variable: str, measurand: str) -> bool:
    if measurand not in device.measurands:
        return False
    if measurand != "ACTIVE_POWER":
        return True
    return device.about(measurand) == ("SOLAR" if variable.startswith("solar.") else "BATTERY")


def _missing_for_capacity(scenario: Scenario, depot: Depot) -> list[str]:
    controllers = depot.controllers()
    if len(controllers) != 1:
        named = f" ({', '.join(one.device_id for one in controllers)})" if controllers else ""
        return [
            f"the story has one controller, and depot {depot.depot_id} has {len(controllers) or 'none'}{named}: "
            "a device whose AVAILABLE_CHARGING_CAPACITY does UPDATE_CIRCUIT_CAPACITY"
        ]
    circuit_id = depot.circuit_of(controllers[0])
    if circuit_id is None:
        return [f"nothing says which circuit {controllers[0].device_id} controls"]
    if "controller.fail_safe_kw" not in scenario.told and depot.safe_capacity_kw.get(circuit_id) is None:
        return [f"there is no fail-safe value: controller.fail_safe_kw is not told, and {circuit_id} has no safe_capacity_kw"]
    return []


def recorder_of(depot: Depot, measurand: str) -> str | None:
    """The device whose recorded value of a measurand is meant: the only one, of several the controller; None where unclear."""
    recording = [device for device in depot.devices if _records(device, measurand)]
    meant = recording if len(recording) == 1 else [device for device in recording if device.is_controller]
    return meant[0].device_id if len(meant) == 1 else None


def _records(device: PlayedDevice, measurand: str) -> bool:
    return any(one.measurand == measurand and one.action == RECORD_ACTION for one in device.actions)


def _missing_for(root: str, name: str, depot: Depot) -> str | None:
    every = [(device, action) for device in depot.devices for action in device.actions]
    match root:
        case "card" if name and not any(one.action == CAPABILITY_ACTION and one.capability == name for _, one in every):
            return f"no device of depot {depot.depot_id} is bound to {name}"
        case "circuit" if not depot.controllers():
            return f"no device of depot {depot.depot_id} sets a circuit's capacity"
        case "power_source" if depot.power_sources.get(name, 0) != 1:
            return f"depot {depot.depot_id} has {depot.power_sources.get(name, 0)} power sources of kind {name}; one is needed"
        case "measurement" if recorder_of(depot, name) is None:
            recording = [device.device_id for device, one in every if one.measurand == name and one.action == RECORD_ACTION]
            named = f" ({', '.join(sorted(recording))}), and none of them is the controller" if recording else ""
            return f"{len(recording) or 'no'} devices of depot {depot.depot_id} record {name}{named}"
        case _:
            return None
