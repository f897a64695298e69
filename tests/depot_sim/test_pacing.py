"""How story and real time go together."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.depot_sim.depots import preset, small

from depot_sim.pacing import FAST_STEP_S, SETTLE_S, Pace, Pacing, read_pace
from depot_sim.presets import preset_names


@pytest.mark.parametrize(
    ("text", "pace"),
    [("real", Pace(1)), ("fast", Pace(None)), ("60x", Pace(60)), ("60×", Pace(60)), ("0.5x", Pace(0.5))],
)
def test_a_pace_is_a_word_or_a_factor(text: str, pace: Pace) -> None:
    assert read_pace(text) == pace


@pytest.mark.parametrize("text", ["", "x", "0x", "-1x", "0.0x", "fastest", "60"])
def test_anything_else_is_no_pace(text: str) -> None:
    assert read_pace(text) is None


def test_windows_are_told_as_they_are_and_the_rest_fast() -> None:
    pacing = Pacing(small("initial: {}\nreal_time: [{from: 4s, to: 7s}]"), Pace(None))
    begins = 4 * FAST_STEP_S + SETTLE_S
    assert pacing.real_s(4) == pytest.approx(begins)
    assert pacing.real_s(6) == pytest.approx(begins + 2)
    assert pacing.real_s(10) == pytest.approx(begins + 3 + 3 * FAST_STEP_S)


def test_the_story_waits_where_something_is_expected() -> None:
    pacing = Pacing(small("initial: {}\nexpectations: [{at: 5s, card.DER: ON}, {at: 5s, card.PEAK_SHAVING: ON}]"), Pace(10))
    assert pacing.real_s(5) == pytest.approx(0.5 + SETTLE_S)
    assert pacing.real_s(6) == pytest.approx(0.6 + 2 * SETTLE_S)


def test_real_is_real() -> None:
    pacing = Pacing(preset("capacity-and-heartbeat"), Pace(1))
    assert [pacing.real_s(at_s) for at_s in (0, 5, 31, 44)] == [0, 5, 31, 44]


@settings(deadline=None)
@given(
    name=st.sampled_from(preset_names()), times=st.one_of(st.none(), st.floats(0.1, 1000)), pair=st.tuples(*[st.floats(0, 1)] * 2)
)
def test_real_time_never_goes_back(name: str, times: float | None, pair: tuple[float, float]) -> None:
    scenario = preset(name)
    pacing = Pacing(scenario, Pace(times))
    earlier, later = (share * scenario.duration_s for share in sorted(pair))
    assert pacing.real_s(earlier) <= pacing.real_s(later)


@pytest.mark.parametrize("name", preset_names())
def test_no_preset_takes_half_a_minute_at_pace_fast(name: str) -> None:
    scenario = preset(name)
    assert Pacing(scenario, Pace(None)).real_s(scenario.duration_s) < 20
