"""The battery: what goes in comes out less the losses, and no limit is ever passed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depot_sim.battery import Battery

_EFFICIENCY = st.floats(0.5, 1.0)
_HOURS = st.sampled_from([1 / 3600, 1 / 60, 0.25, 1.0])


@st.composite
def _batteries(draw: st.DrawFn) -> Battery:
    capacity_kwh = draw(st.floats(1.0, 2000.0))
    low = draw(st.floats(0.0, 50.0))
    high = draw(st.floats(50.0, 100.0))
    soc_pct = draw(st.floats(low, high))
    return Battery(capacity_kwh, capacity_kwh * soc_pct / 100, draw(_EFFICIENCY), draw(_EFFICIENCY), low, high)


@settings(deadline=None)
@given(battery=_batteries(), asked=st.lists(st.floats(-500, 500), max_size=30), hours=_HOURS)
def test_the_store_holds_what_came_in_less_what_went_out_and_the_losses(battery: Battery, asked: list[float], hours: float) -> None:
    now, stored_kwh = battery, 0.0
    for wish_kw in asked:
        power_kw = now.possible_kw(wish_kw, hours, 300.0, 200.0)
        stored_kwh += (power_kw * now.charge_efficiency if power_kw > 0 else power_kw / now.discharge_efficiency) * hours
        now = now.after(power_kw, hours)
    assert now.energy_kwh == pytest.approx(battery.energy_kwh + stored_kwh, abs=1e-6)


@settings(deadline=None)
@given(battery=_batteries(), asked=st.lists(st.floats(-500, 500), max_size=30), hours=_HOURS)
def test_the_state_of_charge_stays_in_the_usable_part(battery: Battery, asked: list[float], hours: float) -> None:
    for wish_kw in asked:
        battery = battery.after(battery.possible_kw(wish_kw, hours, 300.0, 200.0), hours)
        assert battery.min_soc_pct - 1e-6 <= battery.soc_pct <= battery.max_soc_pct + 1e-6


@settings(deadline=None)
@given(battery=_batteries(), wish_kw=st.floats(-500, 500), hours=_HOURS, limits=st.tuples(st.floats(0, 400), st.floats(0, 400)))
def test_power_is_never_more_than_asked_nor_than_the_limit_nor_the_other_way(
    battery: Battery, wish_kw: float, hours: float, limits: tuple[float, float]
) -> None:
    power_kw = battery.possible_kw(wish_kw, hours, *limits)
    assert power_kw * wish_kw >= 0
    assert abs(power_kw) <= min(abs(wish_kw), limits[0] if wish_kw > 0 else limits[1]) + 1e-9


@pytest.mark.parametrize(
    ("soc_pct", "asked_kw", "power_kw"),
    [
        (50, 40, 40),
        (30, 90, 60),
        (50, 90, 50 / 0.9),
        (95, 40, 40 * 5 / 36),
        (100, 40, 0),
        (70, -90, -45),
        (50, -90, -36),
        (12, -40, -1.8),
        (10, -40, 0),
        (5, -40, 0),
    ],
)
def test_a_step_of_an_hour(soc_pct: float, asked_kw: float, power_kw: float) -> None:
    battery = Battery(100.0, soc_pct, 0.9, 0.9, 10.0, 100.0)
    assert battery.possible_kw(asked_kw, 1.0, 60.0, 45.0) == pytest.approx(power_kw, rel=1e-6)
