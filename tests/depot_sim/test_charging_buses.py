"""The buses of a day: the same for the same seed, within every bound, and charged with what was delivered."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depot_sim.charging_buses import ChargingBuses


def _day(seed: int, allowed_kw: float | None, count: int = 16) -> list[list[float]]:
    buses = ChargingBuses(seed, count, 75.0, 120.0, 220.0)
    return [buses.step(4 + step / 12, 1 / 12, allowed_kw) for step in range(288)]


def test_the_same_seed_tells_the_same_day_and_another_seed_another() -> None:
    assert _day(1, None) == _day(1, None)
    assert _day(1, None) != _day(2, None)


def test_a_bus_of_a_larger_depot_does_as_it_does_in_a_smaller_one() -> None:
    assert [step[:4] for step in _day(1, None)] == _day(1, None, count=4)


@settings(deadline=None)
@given(seed=st.integers(0, 1000), allowed_kw=st.one_of(st.none(), st.floats(0, 1500)))
def test_no_charger_and_no_depot_draws_more_than_it_may(seed: int, allowed_kw: float | None) -> None:
    for powers in _day(seed, allowed_kw):
        assert all(0 <= power <= 75 for power in powers)
        assert allowed_kw is None or sum(powers) <= allowed_kw + 1e-6


def test_what_is_delivered_is_the_sum_of_the_powers() -> None:
    buses = ChargingBuses(5, 16, 75.0, 120.0, 220.0)
    powers = [sum(buses.step(4 + step / 12, 1 / 12, 600.0)) for step in range(288)]
    assert buses.delivered_kwh == pytest.approx(sum(powers) / 12)
    assert 16 * 120 <= buses.delivered_kwh <= 16 * 220 * 2


def test_the_yard_is_empty_in_the_morning_and_full_in_the_evening() -> None:
    day = _day(1, None)
    charging = [sum(1 for power in powers if power > 0) for powers in day]
    assert charging[(8 - 4) * 12] == 0
    assert max(charging[(18 - 4) * 12 : (22 - 4) * 12]) > 8
