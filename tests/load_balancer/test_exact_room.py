"""What is said to be left really fits in floats, to the last bit, and no more than a hair is given away."""

from math import ulp

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from load_balancer import Limit, LimitSource, NodeKind, PowerNode, Strategy
from load_balancer.exact_room import ExactRoom, units
from load_balancer.tree import arrange

POWERS = st.one_of(st.floats(0, 1000, allow_subnormal=False), st.integers(0, 10_000).map(lambda n: n / 10))


def room(limit_kw: float, base_load_kw: float) -> ExactRoom:
    node = PowerNode("cp", None, NodeKind.CHARGE_POINT, [Limit(limit_kw, LimitSource.SCHEDULE)], base_load_kw)
    return ExactRoom(arrange([node], Strategy.CHARGER))


@given(limit=POWERS, base=POWERS)
@example(limit=1 + 2**-52, base=0.0)  # half a unit in the last place more would round up here
@example(limit=3 + 2**-51, base=1.0)
@example(limit=5.1, base=1.1)
def test_what_is_left_and_the_base_load_stay_within_the_limit(limit: float, base: float) -> None:
    left = room(limit, base).left_kw(0)
    assert left == 0.0 or left + base <= limit
    assert left >= limit - base - 2 * ulp(limit) - 2**-79


@pytest.mark.parametrize("parts", [(6.9, 6.9, 6.9), (0.1, 0.2), (33.3, 33.3, 33.4)])
def test_room_is_used_up_by_its_parts(parts: tuple[float, ...]) -> None:
    limit = sum(parts)
    whole = room(limit, 0.0)
    for part in parts:
        assert whole.shortage(0, units(part)) == -1
        whole.take(0, units(part))
    assert whole.left_kw(0) <= 4 * ulp(limit)
    assert whole.shortage(0, units(0.01)) == 0
