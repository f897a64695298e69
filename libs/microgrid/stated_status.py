"""Where a capability status goes that names its capability and scope itself, instead of leaving that to sensor actions.

It is one `UPDATE_MICROGRID_STATE` of one measurand, and no other action of that measurand runs. Where the device has an enabled
sensor action that says the same, it is that action; so the report has one identity and one place among the open questions, by
whatever way it comes. Where it has none, none is needed: who may report a capability is decided by its control point, as for a
packet. So a packet of a device without such an action is ignored, and a stated status never is.
"""

from __future__ import annotations

import msgspec

from microgrid import events, subjects
from microgrid.routing import DevicePlan, PlannedAction, Target, resolve_capability
from microgrid.site_model import UPDATE_MICROGRID_STATE, Site


def plan_stated_status(site: Site, plan: DevicePlan, measurand: str, capability: str, node_id: str | None) -> DevicePlan:
    """A device's plan with nothing in it but the update of one capability and scope (`node_id` None: the whole site)."""
    action = next(
        (
            one
            for one in plan.actions.get(measurand, ())
            if one.action == UPDATE_MICROGRID_STATE and (one.capability, one.node_id) == (capability, node_id)
        ),
        None,
    )
    action = action or _action_of_its_own(site, plan, measurand, capability, node_id)
    return msgspec.structs.replace(plan, actions={measurand: (action,)}, capacity_actions=())


def _action_of_its_own(site: Site, plan: DevicePlan, measurand: str, capability: str, node_id: str | None) -> PlannedAction:
    target = resolve_capability(site, site.device_by_id[plan.device_id], capability, node_id)
    subject = subjects.capability_subject(site.microgrid.microgrid_id, node_id, capability) if site.microgrid else None
    return PlannedAction(
        sensor_action_id=None,
        measurand=measurand,
        action=UPDATE_MICROGRID_STATE,
        target=target,
        subject=subject,
        selectors=events.action_selectors(capability, node_id, None, None),
        capability=capability,
        node_id=node_id,
        control_point_id=target.target_id if isinstance(target, Target) else None,
    )
