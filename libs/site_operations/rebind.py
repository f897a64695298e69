"""What a change of a controller binding makes of its device's sensor actions and control points. Pure: a site in, a site out.

A binding has nothing of its own, so a change of it is one of the rows that it shows:

| a capability of the binding | its control point | the device's actions of that capability and scope |
|---|---|---|
| is fed by a measurand | is made, or changed | that of the measurand is switched alike, or made; all others are off |
| gets another measurand | has it | the one that fed it does so by the new measurand; one that the profile gives is off instead |
| leaves the binding | goes | go, but those that the profile gives stay, off, for an import would give them again |

An action that is changed here counts as a person's from then on, so nothing that generates actions undoes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from microgrid.controller_bindings import ControllerBinding
from microgrid.site_model import UPDATE_MICROGRID_STATE, ControlPoint, SensorAction, Site
from site_registry.site_file import PERSON, Feed, generated_actions

NewId = Callable[[], str]
Key = tuple[str, str, str | None]
"""Device, capability and node: what one control point is of."""


@dataclass(frozen=True, slots=True)
class WantedBinding:
    """A controller binding as it is to be, with each capability at most once."""

    controller_binding_id: str
    device_id: str
    node_id: str | None
    enabled: bool
    stale_after_s: float
    feeds: tuple[Feed, ...]


def wanted_of(binding: ControllerBinding) -> WantedBinding:
    """A stored binding as the wish that it stay as it is."""
    feeds = tuple(Feed(point.capability, point.measurand) for point in binding.points)
    return WantedBinding(
        binding.controller_binding_id, binding.device_id, binding.node_id, binding.enabled, binding.stale_after_s, feeds
    )


def rebound(site: Site, wanted: WantedBinding, new_id: NewId) -> Site:
    """The site with the binding as it is to be; a control point that the device has already comes into it.

    The site has a microgrid. Who else owns what the binding enables is the caller's to look at first.
    """
    actions = {action.sensor_action_id: action for action in site.sensor_actions}
    points = {_key(point): point for point in control_points(site)}
    for feed in wanted.feeds:
        key = (wanted.device_id, feed.capability, wanted.node_id)
        known = points.get(key)
        actions.update({action.sensor_action_id: action for action in _fed(site, wanted, feed, known, new_id)})
        points[key] = _point(wanted, feed, known, new_id)
    kept = {feed.capability for feed in wanted.feeds}
    left = [
        point
        for point in points.values()
        if point.controller_binding_id == wanted.controller_binding_id and point.capability not in kept
    ]
    return _without(_with(site, actions.values(), points.values()), left)


def unbound(site: Site, binding: ControllerBinding) -> Site:
    """The site without a binding."""
    return _without(site, binding.points)


def yielded(site: Site, points: Iterable[ControlPoint]) -> Site:
    """The site with control points switched off, and the actions that feed them with them."""
    off = {_key(point) for point in points}
    actions = (
        replace(action, enabled=False, origin=PERSON) if action.enabled and _key_of(action) in off else action
        for action in site.sensor_actions
    )
    after = (replace(point, enabled=False) if _key(point) in off else point for point in control_points(site))
    return _with(site, actions, after)


def control_points(site: Site) -> tuple[ControlPoint, ...]:
    """All control points of a site's microgrid."""
    return site.microgrid.control_points if site.microgrid else ()


def feeding(site: Site, key: Key) -> list[SensorAction]:
    """The actions by which a device feeds a capability of a scope, by id: device, capability, node."""
    return [action for action in site.actions_by_device.get(key[0], ()) if _key_of(action) == key]


def _fed(site: Site, wanted: WantedBinding, feed: Feed, point: ControlPoint | None, new_id: NewId) -> list[SensorAction]:
    """The device's actions of one capability and scope, with the one that feeds it as wanted and all others off."""
    mine = feeding(site, (wanted.device_id, feed.capability, wanted.node_id))
    chosen = next((action for action in mine if action.measurand == feed.measurand), None)
    if chosen is None and point is not None:
        fed = (action for action in mine if action.measurand == point.measurand and not _is_given(site, action))
        chosen = next(fed, None)
    others = [_edited(action, action.measurand, enabled=False) for action in mine if action is not chosen]
    if chosen is not None:
        return [*others, _edited(chosen, feed.measurand, enabled=wanted.enabled)]
    made = SensorAction(
        new_id(),
        wanted.device_id,
        feed.measurand,
        UPDATE_MICROGRID_STATE,
        wanted.enabled,
        capability=feed.capability,
        node_id=wanted.node_id,
        origin=PERSON,
    )
    return [*others, made]


def _edited(action: SensorAction, measurand: str, *, enabled: bool) -> SensorAction:
    same = replace(action, measurand=measurand, enabled=enabled)
    return action if same == action else replace(same, origin=PERSON)


def _point(wanted: WantedBinding, feed: Feed, known: ControlPoint | None, new_id: NewId) -> ControlPoint:
    return ControlPoint(
        known.control_point_id if known is not None else new_id(),
        wanted.node_id,
        feed.capability,
        wanted.device_id,
        feed.measurand,
        wanted.stale_after_s,
        wanted.enabled,
        wanted.controller_binding_id,
    )


def _without(site: Site, points: Iterable[ControlPoint]) -> Site:
    gone = {_key(point) for point in points}
    actions: list[SensorAction] = []
    for action in site.sensor_actions:
        if _key_of(action) not in gone:
            actions.append(action)
        elif _is_given(site, action):
            actions.append(_edited(action, action.measurand, enabled=False))
    return _with(site, actions, (point for point in control_points(site) if _key(point) not in gone))


def _is_given(site: Site, action: SensorAction) -> bool:
    """Whether the device's profile gives an action, so that an import would bring it back."""
    device = site.device_by_id.get(action.device_id)
    given = generated_actions(device) if device is not None else []
    return action.node_id is None and any((one.measurand, one.capability) == (action.measurand, action.capability) for one in given)


def _with(site: Site, actions: Iterable[SensorAction], points: Iterable[ControlPoint]) -> Site:
    if site.microgrid is None:
        raise RuntimeError("there are no bindings without a microgrid")
    return replace(
        site,
        sensor_actions=tuple(sorted(actions, key=lambda action: action.sensor_action_id)),
        microgrid=replace(site.microgrid, control_points=tuple(sorted(points, key=lambda point: point.control_point_id))),
    )


def _key(point: ControlPoint) -> Key:
    return (point.device_id, point.capability, point.node_id)


def _key_of(action: SensorAction) -> Key | None:
    if action.action != UPDATE_MICROGRID_STATE or action.capability is None:
        return None
    return (action.device_id, action.capability, action.node_id)
