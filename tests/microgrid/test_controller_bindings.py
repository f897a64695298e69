"""Which binding control points belong to, and its version, as the table of the module says and for any change."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgrid.controller_bindings import controller_bindings, settle
from microgrid.site_model import ControlPoint

PS = ControlPoint("ps", None, "PEAK_SHAVING", "dev", "PEAK_SHAVING", 300.0, True, "b1", 4)
DER = ControlPoint("der", None, "DER", "dev", "DER", 300.0, True, "b1", 4)
ALONE = replace(DER, controller_binding_id="b2", binding_version=2)


def off(point: ControlPoint) -> ControlPoint:
    return replace(point, enabled=False)


def fresh(point: ControlPoint) -> ControlPoint:
    return replace(point, controller_binding_id="", binding_version=1)


def shown(points: Sequence[ControlPoint]) -> dict[str, tuple[str, int]]:
    return {point.control_point_id: (point.controller_binding_id, point.binding_version) for point in points}


def numbered() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"new-{next(numbers)}"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([], [fresh(PS), fresh(DER)], {"ps": ("new-1", 1), "der": ("new-1", 1)}),
        ([], [fresh(PS), fresh(off(DER))], {"ps": ("new-1", 1), "der": ("new-2", 1)}),
        ([], [fresh(PS), fresh(replace(DER, device_id="other"))], {"ps": ("new-1", 1), "der": ("new-2", 1)}),
        ([], [fresh(PS), fresh(replace(DER, node_id="n"))], {"ps": ("new-1", 1), "der": ("new-2", 1)}),
        ([PS, DER], [PS, DER], {"ps": ("b1", 4), "der": ("b1", 4)}),
        ([PS, DER], [off(PS), off(DER)], {"ps": ("b1", 5), "der": ("b1", 5)}),
        ([PS, DER], [PS, off(DER)], {"ps": ("b1", 5), "der": ("new-1", 1)}),
        ([PS, DER], [off(PS), DER], {"ps": ("new-1", 1), "der": ("b1", 5)}),
        ([PS, DER], [replace(PS, stale_after_s=9.0), off(DER)], {"ps": ("b1", 5), "der": ("new-1", 1)}),
        ([PS, DER], [PS], {"ps": ("b1", 5)}),
        ([PS, DER], [PS, replace(DER, measurand="FLAG")], {"ps": ("b1", 5), "der": ("b1", 5)}),
        ([PS], [PS, fresh(DER)], {"ps": ("b1", 5), "der": ("b1", 5)}),
        ([PS, ALONE], [PS, ALONE], {"ps": ("b1", 4), "der": ("b2", 2)}),
        ([PS, off(ALONE)], [PS, ALONE], {"ps": ("b1", 5), "der": ("b1", 5)}),
        ([PS, off(ALONE)], [off(PS), off(ALONE)], {"ps": ("b1", 5), "der": ("b1", 5)}),
        ([PS, ALONE], [PS], {"ps": ("b1", 4)}),
    ],
    ids=[
        "new and alike",
        "new with another switch",
        "new of another device",
        "new of another scope",
        "nothing changed",
        "all change alike",
        "one changes and leaves",
        "the first changes and leaves",
        "all change and not alike",
        "a capability goes",
        "another measurand",
        "a capability comes",
        "made alike on purpose",
        "becomes alike again",
        "another becomes alike, and the older id stays",
        "one binding goes",
    ],
)
def test_a_control_point_is_in_the_binding_that_the_table_says(
    before: list[ControlPoint], after: list[ControlPoint], expected: dict[str, tuple[str, int]]
) -> None:
    assert shown(settle(before, after, numbered())) == expected


@pytest.mark.parametrize(
    ("before", "after", "named", "expected"),
    [
        ([PS, off(ALONE)], [PS, ALONE], {"b2"}, {"ps": ("b1", 4), "der": ("b2", 3)}),
        ([PS], [PS, replace(fresh(DER), controller_binding_id="b3")], {"b3"}, {"ps": ("b1", 4), "der": ("b3", 1)}),
        ([off(PS), ALONE], [off(PS), off(ALONE)], {"b1"}, {"ps": ("b1", 4), "der": ("b2", 3)}),
    ],
    ids=["changed", "made", "not joined by others"],
)
def test_a_binding_that_a_command_names_keeps_its_id_beside_one_that_is_like_it(
    before: list[ControlPoint], after: list[ControlPoint], named: set[str], expected: dict[str, tuple[str, int]]
) -> None:
    assert shown(settle(before, after, numbered(), named=named)) == expected


def test_capabilities_that_are_switched_off_and_on_again_one_by_one_end_in_the_binding_that_they_came_from() -> None:
    ids = numbered()
    points: tuple[ControlPoint, ...] = (PS, DER)
    for change in ([off(PS), DER], [off(PS), off(DER)], [PS, off(DER)], [PS, DER]):
        stored = {point.control_point_id: point for point in points}
        points = settle(points, [replace(stored[one.control_point_id], enabled=one.enabled) for one in change], ids)
    assert {point.controller_binding_id for point in points} == {"b1"}


def test_rows_at_odds_within_a_binding_are_told_as_its_enabled_part() -> None:
    (binding,) = controller_bindings([off(PS), DER])
    assert (binding.enabled, [point.capability for point in binding.points]) == (True, ["DER"])


_points = st.lists(
    st.builds(
        ControlPoint,
        st.just(""),
        st.sampled_from([None, "n"]),
        st.sampled_from(["PEAK_SHAVING", "DER"]),
        st.sampled_from(["dev", "other"]),
        st.sampled_from(["A", "B"]),
        st.sampled_from([60.0, 300.0]),
        st.booleans(),
    ),
    unique_by=lambda point: (point.node_id, point.capability, point.device_id),
    max_size=6,
).map(lambda points: [replace(one, control_point_id=f"{one.node_id}/{one.capability}/{one.device_id}") for one in points])


@settings(max_examples=200, deadline=None)
@given(st.lists(_points, min_size=1, max_size=6))
def test_whatever_changes_bindings_are_alike_within_and_a_version_grows_exactly_when_what_is_shown_changes(
    history: list[list[ControlPoint]],
) -> None:
    ids = numbered()
    before: tuple[ControlPoint, ...] = ()
    for wanted in history:
        known = {point.control_point_id: point for point in before}
        after = [
            replace(one, controller_binding_id=known[one.control_point_id].controller_binding_id)
            if one.control_point_id in known
            else one
            for one in wanted
        ]
        settled = settle(before, after, ids)
        assert list(settled) == wanted
        was = {binding.controller_binding_id: binding for binding in controller_bindings(before)}
        for binding in controller_bindings(settled):
            members = [one for one in settled if one.controller_binding_id == binding.controller_binding_id]
            assert len({(one.device_id, one.node_id, one.enabled, one.stale_after_s) for one in members}) == 1
            assert {one.binding_version for one in members} == {binding.version}
            known_as = was.get(binding.controller_binding_id)
            if known_as is None:
                assert binding.version == 1
            else:
                assert binding.device_id == known_as.device_id
                assert binding.version == known_as.version + (set(binding.points) != set(known_as.points))
        assert settle(settled, settled, ids) == settled
        before = settled
