"""The state of a depot over time: changes, ramps, energy, limits, and the same for the same seed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.depot_sim.depots import preset, small

from depot_sim.state_variables import Value
from depot_sim.story import Moment, moments


def _numbers(story: list[Moment], name: str) -> list[float]:
    return [float(value) for one in story if isinstance(value := one.state[name], int | float)]


def test_a_change_holds_from_its_moment_on_and_a_ramp_is_a_straight_line() -> None:
    scenario = small(
        "initial: {site: {base_kw: 10}}\n"
        "timeline: [{at: 2s, over: 4s, site.base_kw: 50}, {at: 8s, site.base_kw: 5}, {at: 9s, over: 4s, site.base_kw: 45}]"
    )
    assert _numbers(list(moments(scenario, 1)), "load_kw") == [10, 10, 10, 20, 30, 40, 50, 50, 5, 5, 15]


def test_a_change_within_a_ramp_begins_where_the_ramp_was() -> None:
    scenario = small(
        "initial: {site: {base_kw: 0}}\ntimeline: [{at: 0s, over: 8s, site.base_kw: 80}, {at: 4s, over: 4s, site.base_kw: 0}]"
    )
    assert _numbers(list(moments(scenario, 1)), "load_kw") == [0, 10, 20, 30, 40, 30, 20, 10, 0, 0, 0]


@pytest.mark.parametrize("name", ["peak-shaving-day", "soc-cycle", "bad-gateway"])
def test_the_same_seed_tells_the_same_story(name: str) -> None:
    scenario = preset(name)
    assert list(moments(scenario, 3)) == list(moments(scenario, 3))


def test_another_seed_tells_another_day() -> None:
    scenario = preset("peak-shaving-day")
    assert list(moments(scenario, 1)) != list(moments(scenario, 2))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_over_a_day_energy_is_conserved_and_every_limit_is_kept(seed: int) -> None:
    scenario = preset("peak-shaving-day")
    hours = scenario.step_s / 3600
    before: Moment | None = None
    for moment in moments(scenario, seed):
        state = {name: value for name, value in moment.state.items() if isinstance(value, float)}
        assert state["grid_kw"] == pytest.approx(state["load_kw"] + state["battery_kw"] + state["solar_kw"], abs=0.002)
        assert 10 - 1e-3 <= state["soc_pct"] <= 95 + 1e-3
        assert -250 <= state["battery_kw"] <= 200
        assert state["grid_kw"] >= -50 - 1e-3
        assert state["grid_kw"] <= 500 + 1e-2
        if before is not None:
            power_kw = _float(before.state["battery_kw"])
            stored_kw = power_kw * 0.95 if power_kw > 0 else power_kw / 0.95
            assert state["energy_kwh"] == pytest.approx(_float(before.state["energy_kwh"]) + stored_kw * hours, abs=0.01)
        before = moment


def test_a_day_has_its_peak_its_sun_and_its_night() -> None:
    story = list(moments(preset("peak-shaving-day"), 18))
    assert {one.state["dispatch"] for one in story} == {"IDLE", "CHARGING", "DISCHARGING"}
    assert {one.state["limit_der_export"] for one in story} == {True, False}
    assert max(_float(one.state["charging"]) for one in story) == 16
    # What may be drawn and exported is used to the full.
    assert max(_float(one.state["grid_kw"]) for one in story) == 500
    assert min(_float(one.state["grid_kw"]) for one in story) == -50
    assert all(
        one.state["grid_kw"] == 500 for one in story if one.state["dispatch"] == "DISCHARGING" and _float(one.state["soc_pct"]) > 15
    )


@pytest.mark.parametrize("power_state", ["OFF", "FAULT", "STARTING", "null"])
def test_a_battery_that_is_not_on_has_no_power(power_state: str) -> None:
    scenario = small(f"initial: {{battery: {{power_state: {power_state}, power_kw: 50}}}}")
    assert {one.state["battery_kw"] for one in moments(scenario, 1)} == {0.0}


def test_what_the_scenario_does_not_tell_is_not_part_of_the_state() -> None:
    state = next(iter(moments(small("initial: {controller: {der: true}}"), 1))).state
    assert "soc_pct" not in state
    assert "grid_kw" not in state


def _float(value: Value) -> float:
    assert isinstance(value, int | float)
    return float(value)
