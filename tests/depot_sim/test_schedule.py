"""The packets of a run: valid, each with its own id, the same for the same seed and epoch, and spoilt in the way that was meant."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.depot_sim.depots import preset, preset_depot, small

from depot_sim.mischief import POISONS, with_faults
from depot_sim.pacing import Pace, Pacing
from depot_sim.presets import preset_names
from depot_sim.scenario import Fault, Window
from depot_sim.schedule import Plan, Planned, RunIdentity, packet_body, reports
from sensor_packet.battery_mode import battery_mode
from sensor_packet.decode import decode
from sensor_packet.packet import Packet, Refusal
from sensor_packet.topics import parse_mqtt_packet_topic

_EPOCH = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)
_SAID = [
    Planned(2 * step + number, step, float(step), float(step), "gw", device, ({"key": "SOC", "value": float(step)},))
    for step in range(100)
    for number, device in enumerate(("a", "b"))
]


def _identity(epoch: datetime = _EPOCH, seed: int = 1) -> RunIdentity:
    return RunIdentity("scenario", "depot-1", seed, epoch)


def _inputs(packet: Planned) -> Any:
    return tuple(packet.state[key] for key in ("battery_power_state", "dispatch", "peak_shaving", "der"))


def _plan(*faults: Fault, seed: int = 1) -> Plan:
    return with_faults(replace(small("initial: {}"), faults=faults), _SAID, seed)


def _fault(kind: str, **more: Any) -> Fault:
    return Fault(kind, Window(20, 60), **more)


@pytest.mark.parametrize("name", preset_names())
def test_every_packet_of_a_preset_is_taken_or_refused_as_it_was_meant(name: str) -> None:
    scenario, pacing = preset(name), Pacing(preset(name), Pace(None))
    plan = with_faults(scenario, reports(scenario, preset_depot(name), 1), 1)
    assert plan.packets
    for one in plan.packets:
        claimed = parse_mqtt_packet_topic(one.topic)
        assert claimed is not None
        received_at = _EPOCH + timedelta(seconds=pacing.real_s(one.at_s))
        packet = decode(packet_body(one, _identity(), pacing), received_at=received_at, claimed=claimed)
        if one.skew_s > 300:
            assert isinstance(packet, Refusal)
            assert packet.code == "CLOCK_SKEW"
        elif one.spoilt is None or one.spoilt == "UNKNOWN_DEVICE":
            assert isinstance(packet, Packet), packet
            assert packet.refused == ()
        else:
            codes = [packet.code] if isinstance(packet, Refusal) else [refused.code for refused in packet.refused]
            assert set(codes) == {one.spoilt}


@pytest.mark.parametrize("name", preset_names())
def test_the_mode_says_what_the_table_says_of_the_state(name: str) -> None:
    scenario = preset(name)
    for one in reports(scenario, preset_depot(name), 1):
        said = {entry["key"]: entry["value"] for entry in one.measurands}
        if "BESS_OPERATIONAL_MODE" in said:
            assert said["BESS_OPERATIONAL_MODE"] == battery_mode(*_inputs(one)).mode


def test_the_truth_table_s_preset_visits_every_row_and_every_unknown_input() -> None:
    inputs = [_inputs(one) for one in reports(preset("bess-mode-truth-table"), preset_depot("bess-mode-truth-table"), 1)]
    assert {battery_mode(*one).row for one in inputs} == set(range(1, 16))
    assert all(any(one[place] is None for one in inputs) for place in range(4))


def test_capacity_and_heartbeat_go_out_together() -> None:
    said = reports(preset("capacity-and-heartbeat"), preset_depot("capacity-and-heartbeat"), 1)
    assert all({"AVAILABLE_CHARGING_CAPACITY", "HEARTBEAT_STATUS"} <= {one["key"] for one in packet.measurands} for packet in said)


def test_the_same_seed_and_epoch_give_the_same_bytes_and_another_epoch_other_ids() -> None:
    pacing = Pacing(small("initial: {}"), Pace(1))
    bodies = [packet_body(one, _identity(), pacing) for one in _SAID]
    assert bodies == [packet_body(one, _identity(), pacing) for one in _SAID]
    assert len({_identity().packet_id(one.report) for one in _SAID}) == len(_SAID)
    later = _identity(_EPOCH + timedelta(seconds=1))
    assert {later.packet_id(one.report) for one in _SAID}.isdisjoint({_identity().packet_id(one.report) for one in _SAID})
    assert _identity(seed=2).packet_id(0) != _identity().packet_id(0)


_FAULTS = st.lists(
    st.builds(
        Fault,
        st.sampled_from(["duplicates", "late", "out_of_order", "dropped", "frozen", "clock_skew", "poison", "reconnect_storm"]),
        st.tuples(st.integers(0, 49), st.integers(50, 100)).map(lambda pair: Window(*pair)),
        st.floats(0.01, 1),
        st.sampled_from([0.0, 3.0, 30.0]),
    ),
    max_size=5,
)


@settings(deadline=None)
@given(faults=_FAULTS, seed=st.integers(0, 100))
def test_no_fault_loses_a_report_unnoticed_or_makes_one_up(faults: list[Fault], seed: int) -> None:
    plan = _plan(*faults, seed=seed)
    own = [one for one in plan.packets if one.spoilt is None]
    assert {one.report for one in own} == {one.report for one in _SAID}
    assert all(one.sent or one.fault is not None for one in own)
    assert [one.at_s for one in plan.packets] == sorted(one.at_s for one in plan.packets)
    stamped = {one.report: one.stamped_s for one in _SAID}
    assert all(one.stamped_s == stamped[one.report] for one in own)
    assert plan == _plan(*faults, seed=seed)


def test_without_faults_nothing_changes() -> None:
    assert _plan().packets == tuple(_SAID)


def test_a_duplicate_comes_right_after_its_original_under_its_id() -> None:
    packets = _plan(_fault("duplicates")).packets
    twice = [one for one, count in Counter(one.report for one in packets).items() if count == 2]
    assert len(twice) == 80
    assert all(one.report == other.report for one, other in pairwise(packets) if other.fault == "duplicate")


def test_late_packets_keep_their_time_and_come_behind() -> None:
    late = [one for one in _plan(_fault("late", by_s=5.0)).packets if one.fault == "late"]
    assert len(late) == 80
    assert all(one.at_s == one.stamped_s + 5 for one in late)


def test_swapped_packets_are_of_one_device() -> None:
    packets = _plan(_fault("out_of_order")).packets
    for device in ("a", "b"):
        stamps = [one.stamped_s for one in packets if one.device_id == device]
        assert sorted(stamps) == [float(step) for step in range(100)]
        assert stamps != sorted(stamps)


def test_frozen_devices_repeat_the_first_value_under_their_own_times() -> None:
    frozen = [one for one in _plan(_fault("frozen")).packets if one.fault == "frozen"]
    assert {one.measurands[0]["value"] for one in frozen} == {20.0}
    assert len({one.stamped_s for one in frozen}) == 40


def test_poison_takes_turns_and_stands_beside_what_devices_say() -> None:
    spoilt = [one.spoilt for one in _plan(_fault("poison")).packets if one.spoilt is not None]
    assert spoilt[: len(POISONS)] == list(POISONS)
    assert len(spoilt) == 80


def test_taking_a_fault_away_does_not_move_another() -> None:
    both = _plan(_fault("duplicates", rate=0.5), Fault("dropped", Window(70, 80), 0.5))
    alone = _plan(Fault("duplicates", Window(0, 1), 0.5), Fault("dropped", Window(70, 80), 0.5))
    assert {one.report for one in both.packets if not one.sent} == {one.report for one in alone.packets if not one.sent}


def test_a_storm_has_its_moment() -> None:
    plan = _plan(_fault("reconnect_storm", times=3))
    assert [(one.at_s, one.times) for one in plan.storms] == [(20, 3)]
    assert plan.packets == tuple(_SAID)
