"""Which control points make up a controller binding, and when a binding is another version of itself.

A controller binding is what a person sees of the control points of one device in one scope: they share its switch (`enabled`) and
its `stale_after_s`. It has no content of its own; only its identity and its version are kept, with the control points. `settle`
finds both after any change of the control points, by whatever way they came to be as they are:

| the control points | their binding |
|---|---|
| of a binding stay, or change all alike | stays the same |
| some of a binding change their switch or `stale_after_s`, others do not | leave it; those that did not change keep it |
| all of a binding change, and not alike | the first of them, by capability, keep it; the others leave it |
| are new, or have left theirs | are together in one binding, in a new one where none is like them |
| have changed or are new, and a binding of their device and scope is like them | both become one, under the older id |

The last row does not hold for bindings that a command speaks of by name: whoever changes a binding finds it again under its id. Two
bindings that were made alike on purpose stay two.

A version starts at 1 and grows by one when anything changes that the binding shows: a capability comes or goes, a measurand, the
switch, `stale_after_s`. A binding that has no control point left is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from microgrid.site_model import CAPABILITIES, ControlPoint, Microgrid

_Likeness = tuple[str, str | None, bool, float]
"""What the control points of one binding have in common: device, node, switch, seconds until stale."""


@dataclass(frozen=True, slots=True)
class ControllerBinding:
    """A device that owns (or, disabled, would own) capabilities of one scope; `points` in the order of `CAPABILITIES`."""

    controller_binding_id: str
    device_id: str
    node_id: str | None
    enabled: bool
    stale_after_s: float
    version: int
    points: tuple[ControlPoint, ...]


def controller_bindings(points: Iterable[ControlPoint]) -> tuple[ControllerBinding, ...]:
    """The bindings that control points make up, by id.

    Rows that older code left at odds within a binding are told as that binding's enabled part.
    """
    by_id: dict[str, list[ControlPoint]] = {}
    for point in sorted(points, key=_order):
        by_id.setdefault(point.controller_binding_id, []).append(point)
    bindings: list[ControllerBinding] = []
    for binding_id, members in sorted(by_id.items()):
        head = next((point for point in members if point.enabled), members[0])
        alike = tuple(point for point in members if _likeness(point) == _likeness(head))
        version = max(point.binding_version for point in members)
        bindings.append(
            ControllerBinding(binding_id, head.device_id, head.node_id, head.enabled, head.stale_after_s, version, alike)
        )
    return tuple(bindings)


def binding_of(microgrid: Microgrid | None, controller_binding_id: str) -> ControllerBinding | None:
    """A microgrid's binding by id."""
    points = microgrid.control_points if microgrid else ()
    found = controller_bindings(point for point in points if point.controller_binding_id == controller_binding_id)
    return found[0] if found else None


def settle(
    before: Iterable[ControlPoint],
    after: Sequence[ControlPoint],
    new_id: Callable[[], str],
    *,
    named: Collection[str] = (),
) -> tuple[ControlPoint, ...]:
    """The control points of `after`, in their order, each with its binding's id and version.

    `before` is what is stored; `named` are the bindings that the change speaks of by id (also new ones, whose points carry it
    already). `new_id` gives the ids of new bindings.
    """
    known = {point.control_point_id: point for point in before}
    binding_of_point = {
        point.control_point_id: point.controller_binding_id or _binding_before(point, known) for point in sorted(after, key=_order)
    }
    groups = _parted(after, binding_of_point, known)
    moved = [group for group in groups if any(_has_moved(point, known) for point in group.points)]
    for group in moved:
        if not group.binding_id or group.binding_id not in named:
            _join(group, groups, named)
    for group in groups:
        if group.points and not group.binding_id:
            group.binding_id = new_id()
    return _versioned(known, after, groups)


def rewritten(before: Iterable[ControlPoint], after: Iterable[ControlPoint]) -> list[ControlPoint]:
    """The control points that stood before and say something else now, or are shown by another binding or version."""
    stood = {point.control_point_id: point for point in before}
    return [
        point
        for point in after
        if (was := stood.get(point.control_point_id)) is not None
        and (was, was.controller_binding_id, was.binding_version) != (point, point.controller_binding_id, point.binding_version)
    ]


@dataclass(slots=True)
class _Group:
    """Control points that are alike and in one binding; an empty id is one still to be given."""

    binding_id: str
    points: list[ControlPoint]

    @property
    def likeness(self) -> _Likeness:
        return _likeness(self.points[0])


def _binding_before(point: ControlPoint, known: dict[str, ControlPoint]) -> str:
    stored = known.get(point.control_point_id)
    return stored.controller_binding_id if stored is not None else ""


def _parted(after: Sequence[ControlPoint], binding_of_point: dict[str, str], known: dict[str, ControlPoint]) -> list[_Group]:
    """Bindings parted into what is alike; of each, one part keeps the id."""
    parts: dict[tuple[str, _Likeness], list[ControlPoint]] = {}
    for point in sorted(after, key=_order):
        parts.setdefault((binding_of_point[point.control_point_id], _likeness(point)), []).append(point)
    keeper: dict[str, _Likeness] = {}
    for (binding_id, likeness), points in parts.items():
        stayed = any(not _has_moved(point, known) for point in points)
        if binding_id not in keeper or (stayed and not _stays(keeper[binding_id], binding_id, parts, known)):
            keeper[binding_id] = likeness
    return [
        _Group(binding_id if keeper[binding_id] == likeness else "", points) for (binding_id, likeness), points in parts.items()
    ]


def _stays(
    likeness: _Likeness, binding_id: str, parts: dict[tuple[str, _Likeness], list[ControlPoint]], known: dict[str, ControlPoint]
) -> bool:
    return any(not _has_moved(point, known) for point in parts[binding_id, likeness])


def _join(group: _Group, groups: Sequence[_Group], named: Collection[str]) -> None:
    """Make one of a group and of the oldest binding that is like it, under the older id; what is named stands apart."""
    if not group.points:
        return
    alike = [
        other
        for other in groups
        if other is not group
        and other.points
        and other.binding_id
        and other.binding_id not in named
        and other.likeness == group.likeness
    ]
    if alike:
        oldest = min(alike, key=lambda other: other.binding_id)
        group.points += oldest.points
        group.binding_id = min(one for one in (group.binding_id, oldest.binding_id) if one)
        oldest.points = []


def _versioned(known: dict[str, ControlPoint], after: Sequence[ControlPoint], groups: Sequence[_Group]) -> tuple[ControlPoint, ...]:
    shown_before: dict[str, set[ControlPoint]] = {}
    version_before: dict[str, int] = {}
    for point in known.values():
        binding_id = point.controller_binding_id
        shown_before.setdefault(binding_id, set()).add(point)
        version_before[binding_id] = max(version_before.get(binding_id, 1), point.binding_version)
    settled: dict[str, ControlPoint] = {}
    for group in groups:
        was = shown_before.get(group.binding_id)
        version = version_before.get(group.binding_id, 1) + (was is not None and was != set(group.points))
        for point in group.points:
            settled[point.control_point_id] = replace(point, controller_binding_id=group.binding_id, binding_version=version)
    return tuple(settled[point.control_point_id] for point in after)


def _has_moved(point: ControlPoint, known: dict[str, ControlPoint]) -> bool:
    stored = known.get(point.control_point_id)
    return stored is None or _likeness(stored) != _likeness(point)


def _likeness(point: ControlPoint) -> _Likeness:
    return (point.device_id, point.node_id, point.enabled, point.stale_after_s)


def _order(point: ControlPoint) -> tuple[int, str]:
    return (CAPABILITIES.index(point.capability), point.control_point_id)
