"""The battery's mode: the truth table, written out once more by hand."""

from __future__ import annotations

from itertools import product

import pytest

from sensor_packet.battery_mode import MODES, battery_mode, capability_from_mode

POWER = (None, "FAULT", "OFF", "STARTING", "STOPPING", "ON")
DISPATCH = (None, "IDLE", "CHARGING", "DISCHARGING")
FLAG = (None, False, True)


def expected_row(power: str | None, dispatch: str | None, peak_shaving: bool, der: bool) -> tuple[int, str]:
    if power != "ON":
        states = {None: (1, "UNKNOWN"), "FAULT": (2, "FAULT"), "OFF": (3, "OFF")}
        return states.get(power, (4, "TRANSITION"))
    if dispatch is None:
        return 5, "UNKNOWN"
    if dispatch == "IDLE":
        return {
            (False, False): (6, "STANDBY"),
            (False, True): (7, "ARMED_DER"),
            (True, False): (8, "ARMED_PEAK_SHAVING"),
            (True, True): (9, "ARMED_BOTH"),
        }[peak_shaving, der]
    if dispatch == "DISCHARGING":
        if der:
            return 11, "DER_EXPORT"
        return (10, "PEAK_SHAVING") if peak_shaving else (12, "UNATTRIBUTED_DISCHARGE")
    if der:
        return 13, "DER_ABSORB"
    return (14, "PEAK_SHAVING_RECHARGE") if peak_shaving else (15, "UNATTRIBUTED_CHARGE")


@pytest.mark.parametrize(("power", "dispatch", "peak_shaving", "der"), list(product(POWER, DISPATCH, FLAG, FLAG)))
def test_every_combination_has_the_mode_of_its_first_row(
    power: str | None, dispatch: str | None, peak_shaving: bool | None, der: bool | None
) -> None:
    found = battery_mode(power, dispatch, peak_shaving, der)
    assert (found.row, found.mode) == expected_row(power, dispatch, bool(peak_shaving), bool(der))
    assert found.attribution == ("PARTIAL" if peak_shaving is None or der is None else "FULL")
    assert found.anomaly == (power == "OFF" and dispatch in ("CHARGING", "DISCHARGING"))


def test_every_row_can_be_reached() -> None:
    assert {battery_mode(*inputs).row for inputs in product(POWER, DISPATCH, FLAG, FLAG)} == set(range(1, 16))


@pytest.mark.parametrize(("power", "dispatch"), [("on", "IDLE"), ("", None), ("ON", "RESTING"), ("TRUE", None)])
def test_a_state_that_does_not_exist_is_an_error(power: str, dispatch: str | None) -> None:
    with pytest.raises(ValueError, match="no such power or dispatch state"):
        battery_mode(power, dispatch, None, None)


@pytest.mark.parametrize(
    ("mode", "peak_shaving", "der"),
    [
        ("ARMED_PEAK_SHAVING", True, False),
        ("PEAK_SHAVING", True, False),
        ("PEAK_SHAVING_RECHARGE", True, False),
        ("ARMED_DER", False, True),
        ("DER_EXPORT", None, True),
        ("DER_ABSORB", None, True),
        ("ARMED_BOTH", True, True),
        ("STANDBY", False, False),
        ("OFF", False, False),
        ("UNATTRIBUTED_DISCHARGE", False, False),
        ("UNATTRIBUTED_CHARGE", False, False),
        ("UNKNOWN", None, None),
        ("FAULT", None, None),
        ("TRANSITION", None, None),
    ],
)
def test_a_mode_says_this_of_the_capabilities(mode: str, peak_shaving: bool | None, der: bool | None) -> None:
    assert capability_from_mode(mode, "PEAK_SHAVING") is peak_shaving
    assert capability_from_mode(mode, "DER") is der


def test_every_mode_says_something_of_the_capabilities() -> None:
    for mode in MODES:
        capability_from_mode(mode, "PEAK_SHAVING")
        capability_from_mode(mode, "DER")


@pytest.mark.parametrize(("mode", "capability"), [("PARTY", "DER"), ("OFF", "HEATING")])
def test_a_mode_or_capability_that_does_not_exist_is_an_error(mode: str, capability: str) -> None:
    with pytest.raises(KeyError):
        capability_from_mode(mode, capability)


def test_what_a_full_table_computes_reads_back_as_the_flags_that_made_it() -> None:
    """Where a mode tells a flag at all, it tells the one that went in, while the battery is on and its dispatch known."""
    for dispatch, peak_shaving, der in product(DISPATCH[1:], FLAG[1:], FLAG[1:]):
        mode = battery_mode("ON", dispatch, peak_shaving, der).mode
        assert capability_from_mode(mode, "PEAK_SHAVING") in (None, peak_shaving)
        assert capability_from_mode(mode, "DER") is der
