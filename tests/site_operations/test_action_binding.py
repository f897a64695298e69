"""Control points follow actions, as the table of the module says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from microgrid.site_model import ControlPoint, Depot, Microgrid, SensorAction, Site
from site_operations.action_binding import follow_actions
from site_registry.site_file import SiteFault

ON = SensorAction("a", "dev", "DER", "UPDATE_MICROGRID_STATE", capability="DER")
OFF = replace(ON, enabled=False)
OTHER = replace(ON, measurand="FLAG")
SECOND_OFF = replace(OTHER, sensor_action_id="b", enabled=False)
RECORDED = SensorAction("b", "dev", "SOC", "RECORD_MEASUREMENT")
BOUND = ControlPoint("p", None, "DER", "dev", "DER", 120.0, enabled=True)
DISABLED = replace(BOUND, enabled=False)
OF_ANOTHER = replace(BOUND, control_point_id="q", device_id="owner")


def _site(actions: tuple[SensorAction, ...], points: tuple[ControlPoint, ...]) -> Site:
    microgrid = Microgrid("m", 1, "ACTIVE", (), points)
    return Site(Depot("d", "D", "UTC"), sensor_actions=actions, microgrid=microgrid)


@pytest.mark.parametrize(
    ("before", "after", "points", "expected"),
    [
        ((), (ON,), (), (replace(BOUND, control_point_id="new", stale_after_s=300.0),)),
        ((OFF,), (ON,), (DISABLED,), (BOUND,)),
        ((ON,), (OTHER,), (BOUND,), (replace(BOUND, measurand="FLAG"),)),
        ((ON,), (OFF,), (BOUND,), (DISABLED,)),
        ((ON,), (), (BOUND,), ()),
        ((OFF,), (), (DISABLED,), ()),
        ((OFF,), (replace(OTHER, enabled=False),), (DISABLED,), (replace(DISABLED, measurand="FLAG"),)),
        ((OFF, SECOND_OFF), (SECOND_OFF,), (DISABLED,), (replace(DISABLED, measurand="FLAG"),)),
        ((ON, SECOND_OFF), (OFF, SECOND_OFF), (BOUND,), (DISABLED,)),
        ((), (OFF,), (OF_ANOTHER,), (OF_ANOTHER,)),
        ((ON,), (replace(ON, scale=2.0),), (DISABLED,), (DISABLED,)),
        ((ON,), (ON, RECORDED), (BOUND,), (BOUND,)),
        (
            (),
            (replace(ON, node_id="n"),),
            (OF_ANOTHER,),
            (replace(BOUND, control_point_id="new", stale_after_s=300.0, node_id="n"), OF_ANOTHER),
        ),
    ],
    ids=[
        "begins",
        "begins again",
        "another measurand",
        "disabled",
        "goes",
        "disabled one goes",
        "another measurand while disabled",
        "its disabled one goes",
        "disabled beside another",
        "waits",
        "changes otherwise",
        "records",
        "another scope",
    ],
)
def test_a_control_point_follows_its_actions(
    before: tuple[SensorAction, ...],
    after: tuple[SensorAction, ...],
    points: tuple[ControlPoint, ...],
    expected: tuple[ControlPoint, ...],
) -> None:
    assert follow_actions(_site(before, points), after, lambda: "new") == expected


def test_what_another_device_owns_is_a_fault_that_names_both() -> None:
    fault = follow_actions(_site((), (OF_ANOTHER,)), (ON,), lambda: "new")
    assert isinstance(fault, SiteFault)
    assert (fault.code, "owner" in fault.detail, "dev" in fault.detail) == ("CAPABILITY_SOURCE_CONFLICT", True, True)


def test_without_a_microgrid_there_is_nothing_to_follow() -> None:
    assert follow_actions(Site(Depot("d", "D", "UTC")), (ON,), lambda: "new") == ()
