"""A gateway gets what its limit says, no more over any span of time, and nothing for a clock that goes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_worker.token_bucket import GatewayLimit, TokenBucket


@pytest.mark.parametrize(
    ("limit", "moments", "granted"),
    [
        pytest.param((10, 3), [0, 0, 0], 3, id="full at the beginning"),
        pytest.param((10, 3), [0, 0, 0, 0], 3, id="no more than the burst at once"),
        pytest.param((10, 3), [0, 0, 0, 0.05], 3, id="half a token is none"),
        pytest.param((10, 3), [0, 0, 0, 0.1], 4, id="one comes back in a tenth of a second"),
        pytest.param((10, 3), [0, 0, 0, 60, 60, 60, 60], 6, id="silence fills it no higher than the burst"),
        pytest.param((0.1, 1), [0, 9.9, 10, 10.1], 2, id="less than one packet a second"),
        pytest.param((10, 3), [5, 5, 5, 1, 4.9, 5, 5.11], 4, id="a clock that goes back fills nothing"),
    ],
)
def test_a_bucket_grants_what_it_holds(limit: tuple[float, float], moments: list[float], granted: int) -> None:
    bucket = TokenBucket(GatewayLimit(*limit), moments[0])
    assert sum(bucket.take(moment) for moment in moments) == granted


@pytest.mark.parametrize(
    ("rate", "burst_s", "expected"),
    [(0, 60, None), (10, 60, GatewayLimit(10, 600)), (0.1, 1, GatewayLimit(0.1, 1)), (2.5, 4, GatewayLimit(2.5, 10))],
)
def test_a_limit_of_0_is_none_and_the_burst_is_never_less_than_a_packet(
    rate: float, burst_s: float, expected: GatewayLimit | None
) -> None:
    assert GatewayLimit.of(rate, burst_s) == expected


def test_a_debt_is_paid_back_before_anything_is_granted() -> None:
    bucket = TokenBucket(GatewayLimit(10, 5), 0.0)
    bucket.charge(25, 0.0)
    assert bucket.wait_s(0.0) == pytest.approx(2.1)
    assert not bucket.take(2.0)
    assert bucket.take(2.11)
    assert bucket.wait_s(100.0) == 0.0
    assert bucket.is_full(100.0)


@given(
    st.floats(0.1, 1000),
    st.floats(1, 1000),
    st.lists(st.tuples(st.floats(0, 2), st.sampled_from(["take", "charge"])), max_size=60),
)
def test_over_any_span_no_more_is_granted_than_burst_and_rate_allow(
    rate: float, burst: float, steps: list[tuple[float, str]]
) -> None:
    bucket = TokenBucket(GatewayLimit(rate, burst), 0.0)
    now, paid = 0.0, 0
    for pause, step in steps:
        now += pause
        if step == "take":
            paid += bucket.take(now)
        else:
            allowed = bucket.wait_s(now) == 0.0
            bucket.charge(1, now)
            paid += allowed
        assert paid <= burst + rate * now + 1e-6
