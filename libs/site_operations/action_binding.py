"""Control points follow the sensor actions that feed capabilities. Pure.

A control point is of one device, capability and scope, and one measurand feeds it: that of an action which is enabled as it is, or
disabled as it is. What happens to it when actions change:

| the device's actions of that capability and scope | its control point |
|---|---|
| an enabled one begins to feed it | is enabled with its measurand, or made |
| the enabled one names another measurand | has that measurand |
| there are some, and the last enabled one was disabled | is disabled: its status stays visible and becomes stale |
| all are disabled, and none has its measurand any more | stays disabled, with the measurand of the first by id |
| the last one goes | goes |

One device owns a capability and scope at a time: to begin feeding what another device owns is a fault that names both, and the
owner stays. Without a microgrid there are no control points. An action that changes otherwise leaves its control
point as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from microgrid.site_model import DEFAULT_STALE_AFTER_S, UPDATE_MICROGRID_STATE, ControlPoint, SensorAction, Site
from site_registry.site_file import SiteFault

_Key = tuple[str, str, str | None]


def follow_actions(site: Site, actions: Sequence[SensorAction], new_id: Callable[[], str]) -> tuple[ControlPoint, ...] | SiteFault:
    """The control points that a depot has when its actions are to be `actions`; a fault points into the changed action."""
    if site.microgrid is None:
        return ()
    before, after = _feeding(site.sensor_actions), _feeding(actions)
    points = {(point.device_id, point.capability, point.node_id): point for point in site.microgrid.control_points}
    for key in [key for key in {**before, **after} if _says(before.get(key)) != _says(after.get(key))]:
        fed = [action for action in after.get(key, ()) if action.enabled]
        point = points.get(key)
        if fed:
            owner = _owner(site, key)
            if owner is not None:
                return _conflict(site.microgrid.microgrid_id, key, owner)
            points[key] = _fed_by(fed, point, key, new_id)
        elif key not in after:
            points.pop(key, None)
        elif point is not None:
            points[key] = replace(point, enabled=False, measurand=_measurand(point, after[key]))
    return tuple(sorted(points.values(), key=lambda point: point.control_point_id))


def _feeding(actions: Sequence[SensorAction]) -> dict[_Key, list[SensorAction]]:
    found: dict[_Key, list[SensorAction]] = {}
    for action in actions:
        if action.action == UPDATE_MICROGRID_STATE and action.capability is not None:
            found.setdefault((action.device_id, action.capability, action.node_id), []).append(action)
    return found


def _says(actions: Sequence[SensorAction] | None) -> set[tuple[str, bool]]:
    """What matters to the control point."""
    return {(action.measurand, action.enabled) for action in actions or ()}


def _owner(site: Site, key: _Key) -> ControlPoint | None:
    device_id, capability, node_id = key
    owner = site.active_control_point(capability, node_id)
    return owner if owner is not None and owner.device_id != device_id else None


def _fed_by(fed: Sequence[SensorAction], point: ControlPoint | None, key: _Key, new_id: Callable[[], str]) -> ControlPoint:
    device_id, capability, node_id = key
    if point is None:
        return ControlPoint(new_id(), node_id, capability, device_id, fed[0].measurand, DEFAULT_STALE_AFTER_S, enabled=True)
    return replace(point, enabled=True, measurand=_measurand(point, fed))


def _measurand(point: ControlPoint, actions: Sequence[SensorAction]) -> str:
    stays = any(action.measurand == point.measurand for action in actions)
    return point.measurand if stays else min(actions, key=lambda action: action.sensor_action_id).measurand


def _conflict(microgrid_id: str, key: _Key, owner: ControlPoint) -> SiteFault:
    device_id, capability, node_id = key
    scope = "the whole site" if node_id is None else f"node {node_id}"
    detail = (
        f"{capability} for {scope} of microgrid {microgrid_id} is owned by {owner.device_id} and claimed by {device_id}; "
        "send enabled: false, or let the new one take over"
    )
    return SiteFault("/capability", "CAPABILITY_SOURCE_CONFLICT", detail)
