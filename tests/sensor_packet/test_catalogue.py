"""The measurands that are known by name, and the units that convert to theirs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor_packet.battery_mode import MODES
from sensor_packet.catalogue import CATALOGUE, convert, scaled

POWER_UNITS = {"W", "kW", "MW"}
ENERGY_UNITS = {"Wh", "kWh", "MWh"}


@pytest.mark.parametrize(
    ("key", "types", "unit", "minimum", "maximum", "choices"),
    [
        ("PEAK_SHAVING", ("boolean",), None, None, None, ()),
        ("DER", ("boolean",), None, None, None, ()),
        ("LIMIT_DER_EXPORT", ("boolean",), None, None, None, ()),
        ("AVAILABLE_CHARGING_CAPACITY", ("number",), "kW", 0, None, ()),
        ("FAIL_SAFE_CAPACITY", ("number",), "kW", 0, None, ()),
        ("HEARTBEAT_STATUS", ("boolean",), None, None, None, ()),
        ("DISPATCH_STATE", ("text",), None, None, None, ("IDLE", "CHARGING", "DISCHARGING")),
        ("SOC", ("number",), "%", 0, 100, ()),
        ("DEVICE_POWER_STATE", ("text", "boolean"), None, None, None, ("ON", "OFF", "STARTING", "STOPPING", "FAULT")),
        ("BESS_OPERATIONAL_MODE", ("text",), None, None, None, MODES),
        ("ACTIVE_POWER", ("number",), "kW", None, None, ()),
        ("IMPORT_ENERGY", ("number",), "kWh", 0, None, ()),
        ("EXPORT_ENERGY", ("number",), "kWh", 0, None, ()),
    ],
)
def test_a_measurand_has_this_type_unit_and_range(
    key: str, types: tuple[str, ...], unit: str | None, minimum: float | None, maximum: float | None, choices: tuple[str, ...]
) -> None:
    entry = CATALOGUE[key]
    assert (entry.key, entry.types, entry.unit) == (key, types, unit)
    assert (entry.minimum, entry.maximum, entry.choices) == (minimum, maximum, choices)
    expected = {None: set[str](), "%": {"%"}, "kW": POWER_UNITS, "kWh": ENERGY_UNITS}
    assert set(entry.units) == expected[unit]


def test_there_are_no_other_measurands() -> None:
    assert len(CATALOGUE) == 13


@pytest.mark.parametrize(
    ("value", "unit", "to_unit", "expected"),
    [
        (1.0, "kW", "kW", 1.0),
        (1.0, None, "kW", 1.0),
        (230.1, "W", "kW", 0.2301),
        (0.9, "W", "kW", 0.0009),
        (-0.35, "MW", "kW", -350.0),
        (2, "MWh", "kWh", 2000.0),
        (500, "Wh", "kWh", 0.5),
        (1.0, "MW", "W", 1e6),
        (1.0, "W", "MW", 1e-6),
        (5.0, "bar", "bar", 5.0),
        (1.0, "kWh", "kW", None),
        (1.0, "A", "kW", None),
        (1.0, "kw", "kW", None),
        (1e306, "MW", "kW", None),
        (10**400, "kW", "kW", None),
    ],
)
def test_units_convert_within_their_quantity_only(value: float, unit: str | None, to_unit: str, expected: float | None) -> None:
    assert convert(value, unit, to_unit) == expected


def test_what_is_not_finite_is_no_value() -> None:
    assert [scaled(value, (1.0, 1.0)) for value in (float("inf"), float("-inf"), float("nan"), 10**309)] == [None] * 4


@given(st.floats(-1e9, 1e9), st.sampled_from(sorted(POWER_UNITS)), st.sampled_from(sorted(POWER_UNITS)))
def test_converting_there_and_back_changes_nothing(value: float, unit: str, to_unit: str) -> None:
    there = convert(value, unit, to_unit)
    assert there is not None
    assert convert(there, to_unit, unit) == pytest.approx(value, rel=1e-15, abs=1e-300)
