"""A chart's points are the last values of their steps, and null wherever nothing is known."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.microgrid.sites import NOW

from microgrid.series import HELD_FOR_GOOD, NOT_HELD, Observation, number_of_points, points

_S = timedelta(seconds=1)


def drawn(observed: dict[float, float | None], held_s: float, *, until_s: int = 60, now_s: float = 1000) -> list[float | None]:
    """The values of the points of a range of steps of 10 s, by seconds from its beginning."""
    observations = [Observation(NOW + at_s * _S, value) for at_s, value in sorted(observed.items())]
    found = points(observations, NOW, NOW + until_s * _S, 10, held_s, NOW + now_s * _S)
    assert [moment for moment, _ in found] == [NOW + index * 10 * _S for index in range(len(found))]
    return [value for _, value in found]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("observed", "held_s", "now_s", "expected"),
    [
        ({}, NOT_HELD, 1000, [None] * 6),
        ({}, HELD_FOR_GOOD, 1000, [None] * 6),
        # a zero is a value, a gap is none
        ({0: 0.0, 30: 1.0}, NOT_HELD, 1000, [0.0, None, None, 1.0, None, None]),
        # the last of a step counts; its beginning belongs to it, its end to the next
        ({10: 1.0, 19.999: 2.0, 20: 3.0}, NOT_HELD, 1000, [None, 2.0, 3.0, None, None, None]),
        # what came before the range is no observation in it, and neither is what comes from its end on
        ({-1: 7.0, 60: 8.0}, NOT_HELD, 1000, [None] * 6),
        # a value holds up to and with its time, counted from its observation to the step's beginning
        ({5: 1.0}, 15, 1000, [1.0, 1.0, 1.0, None, None, None]),
        ({5: 1.0}, 14.999, 1000, [1.0, 1.0, None, None, None, None]),
        ({-5: 1.0}, 5, 1000, [1.0, None, None, None, None, None]),
        ({-6: 1.0}, 5, 1000, [None] * 6),
        ({-9999: 1.0, 25: 2.0}, HELD_FOR_GOOD, 1000, [1.0, 1.0, 2.0, 2.0, 2.0, 2.0]),
        # not known is a value that holds, too
        ({-1: 1.0, 15: None}, HELD_FOR_GOOD, 1000, [1.0, None, None, None, None, None]),
        # nothing holds into what is still to come, but what was observed ahead of us shows
        ({0: 1.0, 55: 2.0}, HELD_FOR_GOOD, 20, [1.0, 1.0, 1.0, None, None, 2.0]),
    ],
)
def test_a_step_has_its_last_value_or_what_still_holds_and_else_null(
    observed: dict[float, float | None], held_s: float, now_s: float, expected: list[float | None]
) -> None:
    assert drawn(observed, held_s, now_s=now_s) == expected


@pytest.mark.parametrize(("until_s", "expected"), [(1, 1), (10, 1), (11, 2), (60, 6)])
def test_the_last_step_may_be_cut_off(until_s: int, expected: int) -> None:
    assert number_of_points(NOW, NOW + until_s * _S, 10) == expected
    assert len(drawn({}, NOT_HELD, until_s=until_s)) == expected


observed_values = st.dictionaries(st.integers(-30, 90).map(float), st.floats(0, 9), max_size=12)


@given(observed_values, st.sampled_from([NOT_HELD, 15.0, HELD_FOR_GOOD]))
def test_what_is_not_the_last_of_its_step_changes_nothing(observed: dict[float, float], held_s: float) -> None:
    last = {at_s // 10: at_s for at_s in sorted(observed)}
    assert drawn({**observed}, held_s) == drawn({at_s: observed[at_s] for at_s in last.values()}, held_s)


@given(observed_values)
def test_the_longer_a_value_holds_the_fewer_gaps_and_no_other_difference(observed: dict[float, float]) -> None:
    bare, held, for_good = (drawn({**observed}, held_s) for held_s in (NOT_HELD, 15.0, HELD_FOR_GOOD))
    for less, more in ((bare, held), (held, for_good)):
        assert all(one in (None, other) for one, other in zip(less, more, strict=True))
