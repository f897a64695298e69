"""The measurands that every part of the system knows by name: their types, units and ranges.

A key outside the catalogue is not an error: it may be named by a sensor action or by a gateway's model output, and only the
general rules for a value and a unit hold for it. Units convert within one quantity: power W, kW, MW; energy Wh, kWh, MWh. A
range is stated in the catalogue's unit; since its only bounds below are 0, and SOC has no other unit, it may be tested on the
number as sent.
"""

from __future__ import annotations

import math

import msgspec

from sensor_packet.battery_mode import MODES

# Multiply, then divide: 0.9 W must become exactly 0.0009 kW, which multiplying by 0.001 would miss.
Scale = tuple[float, float]
_POWER: dict[str, Scale] = {"W": (1.0, 1000.0), "kW": (1.0, 1.0), "MW": (1000.0, 1.0)}
_ENERGY: dict[str, Scale] = {"Wh": (1.0, 1000.0), "kWh": (1.0, 1.0), "MWh": (1000.0, 1.0)}
_SCALES: dict[str, dict[str, Scale]] = {"kW": _POWER, "kWh": _ENERGY}
POWER_STATES = ("ON", "OFF", "STARTING", "STOPPING", "FAULT")
DISPATCH_STATES = ("IDLE", "CHARGING", "DISCHARGING")


class CatalogueEntry(msgspec.Struct, frozen=True):
    """One known measurand.

    `types` are those of "boolean", "number" and "text" that it may have; `unit` is its own unit and `units` every unit accepted
    with the scale to its own (multiply, divide); `minimum` and `maximum` are inclusive, None is no bound; `choices` are its texts.
    """

    key: str
    types: tuple[str, ...]
    meaning: str
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    units: dict[str, Scale] = {}


def scaled(value: float, scale: Scale) -> float | None:
    """Give a number in the catalogue's unit, or None where it is not finite, before or after scaling."""
    try:
        result = float(value) * scale[0] / scale[1]
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def convert(value: float, unit: str | None, to_unit: str) -> float | None:
    """Give a number of any key in `to_unit` (W, kW, MW or Wh, kWh, MWh among themselves).

    An absent unit is taken for `to_unit`. None where the units do not convert or the result is not finite.
    """
    if unit is None or unit == to_unit:
        return scaled(value, (1.0, 1.0))
    for quantity in (_POWER, _ENERGY):
        if unit in quantity and to_unit in quantity:
            (up, down), (to_up, to_down) = quantity[unit], quantity[to_unit]
            return scaled(value, (up * to_down, down * to_up))
    return None


def _number(key: str, unit: str, meaning: str, minimum: float | None = None, maximum: float | None = None) -> CatalogueEntry:
    units = _SCALES.get(unit, {unit: (1.0, 1.0)})
    return CatalogueEntry(key, ("number",), meaning, unit=unit, minimum=minimum, maximum=maximum, units=units)


CATALOGUE: dict[str, CatalogueEntry] = {
    entry.key: entry
    for entry in (
        CatalogueEntry("PEAK_SHAVING", ("boolean",), "the controller reports peak shaving active"),
        CatalogueEntry("DER", ("boolean",), "the controller reports the distributed energy resource active"),
        CatalogueEntry("LIMIT_DER_EXPORT", ("boolean",), "export of the distributed energy resource is being limited"),
        _number("AVAILABLE_CHARGING_CAPACITY", "kW", "power that the site may draw for charging now", 0.0),
        _number("FAIL_SAFE_CAPACITY", "kW", "power to fall back to without a healthy controller", 0.0),
        CatalogueEntry("HEARTBEAT_STATUS", ("boolean",), "the controller is alive and in control"),
        CatalogueEntry("DISPATCH_STATE", ("text",), "what the battery is dispatched to do", choices=DISPATCH_STATES),
        _number("SOC", "%", "state of charge", 0.0, 100.0),
        CatalogueEntry("DEVICE_POWER_STATE", ("text", "boolean"), "true is ON, false is OFF", choices=POWER_STATES),
        CatalogueEntry("BESS_OPERATIONAL_MODE", ("text",), "what the battery is doing and for whom", choices=MODES),
        _number("ACTIVE_POWER", "kW", "measured power, import positive"),
        _number("IMPORT_ENERGY", "kWh", "counter of energy imported", 0.0),
        _number("EXPORT_ENERGY", "kWh", "counter of energy exported", 0.0),
    )
}
