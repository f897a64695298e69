"""Reading scenarios: what they mean, and every fault with its line and column."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from tests.depot_sim.depots import preset, small, text_of

from depot_sim.presets import preset_names
from depot_sim.scenario import CONTRACT, Change, Scenario, Window, read_scenario, seconds
from depot_sim.state_variables import VARIABLES
from sensor_packet.contract_files import read_contract


def test_on_off_and_durations_are_words_and_not_yaml_s_own_ideas() -> None:
    scenario = small("initial: {battery: {power_state: ON}}\nexpectations: [{at: 5s, card.PEAK_SHAVING: OFF}]")
    assert scenario.initial == {"battery.power_state": "ON"}
    assert scenario.expectations[0].expected == "OFF"


def test_changes_come_in_the_order_of_time_with_their_ramps() -> None:
    scenario = small("initial: {}\ntimeline: [{at: 8s, battery.power_kw: 5}, {at: 2s, over: 4s, battery.power_kw: -10}]")
    assert scenario.changes == (Change(2, "battery.power_kw", -10, 4), Change(8, "battery.power_kw", 5))


def test_windows_and_faults_end_with_the_story_where_they_do_not_say() -> None:
    scenario = small("initial: {}\nfaults: [{kind: late, from: 3s, by: 2s}]\nreal_time: [{from: 1s, to: 2s}]")
    assert (scenario.faults[0].window, scenario.faults[0].by_s) == (Window(3, 10), 2)
    assert [scenario.real_time[0].holds(at_s) for at_s in (0.9, 1, 1.9, 2)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("text", "value"), [("120s", 120), ("250ms", 0.25), ("1.5min", 90), ("24h", 86_400), ("0s", 0), ("0.5s", 0.5)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "5 s", "05s", "1e3s", "5d", "0.0s"])
def test_anything_else_is_no_duration(text: str) -> None:
    if text == "0.0s":
        assert seconds(text) == 0
    else:
        with pytest.raises(ValueError, match="no duration"):
            seconds(text)


_FAULTS = [
    ("initial: {controler: {}}", "8:11", "'controler': no such field here"),
    ("initial: {controller: {heartbeet: true}}", "8:24", "'heartbeet': no such field here"),
    ("initial: {battery: {soc_pct: 140}}", "8:21", "140 is not possible; it is a number of at least 0 and at most 100"),
    ("initial: {battery: {power_state: BROKEN}}", "8:21", "'BROKEN' is not possible"),
    ("initial: {battery: {power_kw: true}}", "8:21", "true is not possible"),
    ("initial: {battery: {power_kw: null}}", "8:21", "can not be null"),
    ("initial: {}\ntimeline: [{at: 11s, battery.power_kw: 1}]", "9:13", "11s lies behind the end at 10s"),
    ("initial: {}\ntimeline: [{at: 1s, battery.soc_pct: 1}]", "9:21", "is said at the start only"),
    ("initial: {}\ntimeline: [{at: 1 s, battery.power_kw: 1}]", "9:13", "'1 s': a duration such as"),
    ("initial: {}\ntimeline: [{at: 1s, over: 2s, controller.fail_safe_kw: null}]", "9:31", "a ramp (over) leads to a number"),
    ("initial: {}\ntimeline: [{at: 1s, over: 2s, controller.peak_limit_kw: 5}]", "9:31", "a ramp leads from a number"),
    ("initial: {}\nreal_time: [{from: 1s, to: 4s}, {from: 3s, to: 5s}]", "9:33", "begins before the one above it has ended"),
    ("initial: {}\nreal_time: [{from: 4s, to: 4s}]", "9:13", "ends before it begins"),
    ("initial: {}\nexpectations: [{at: 1s, card.PEAK_SHAVNG: ON}]", "9:25", "there is no 'PEAK_SHAVNG'"),
    ("initial: {}\nexpectations: [{at: 1s, cards.DER: ON}]", "9:25", "leads nowhere"),
    ("initial: {}\nexpectations: [{at: 1s}]", "9:16", "does not have enough properties"),
    ("initial: {controller: {available_kw: 5}}", "8:24", "so controller.heartbeat must be told, too"),
    ("initial: {controller: {heartbeat: true}}", "8:24", "so controller.available_kw must be told, too"),
    ("initial: {}\nexpectations: [{at: 1s, circuit.source: NONE}]", "9:25", "so controller.heartbeat must be told, too"),
    ("initial: {}\ninitial: {}", "9:1", "the key 'initial' stands twice"),
    ("initial: &a {}\nfaults: *a", "8:10", "is used again by an alias"),
    ("initial: {", "8:11", "expected the node content"),
    ("timeline: []", "1:1", "lacks initial"),
]


@pytest.mark.parametrize(("body", "place", "what"), _FAULTS, ids=[f"{place} {what[:30]}" for _, place, what in _FAULTS])
def test_a_fault_is_told_with_line_and_column(body: str, place: str, what: str) -> None:
    faults = read_scenario(text_of(body))
    assert isinstance(faults, list)
    lines = [fault.line("file") for fault in faults]
    assert any(line.startswith(f"file:{place}: ") and what in line for line in lines), lines


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("step", "3s", "not a whole number of steps"),
        ("step", "20s", "not longer than the duration"),
        ("step", "0.1ms", "steps are too many"),
        ("start", "2026-11-20T09:00:00", "no time with an offset"),
        ("scenario", "Small", "small letters"),
        ("seed", "x", "is not of type 'integer'"),
    ],
)
def test_a_wrong_head_is_told(name: str, value: str, what: str) -> None:
    faults = read_scenario(text_of("initial: {}", **{name: value}))
    assert isinstance(faults, list)
    assert what in faults[0].what


def test_all_faults_are_told_at_once_in_the_order_of_their_places() -> None:
    body = "initial: {battery: {soc_pct: 101, power_kw: null}}\nexpectations: [{at: 99s, card.X: ON}]"
    faults = read_scenario(text_of(body))
    assert isinstance(faults, list)
    assert [fault.line("f").split(": ")[0] for fault in faults] == ["f:8:21", "f:8:35", "f:9:17", "f:9:26"]


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_scenario_or_faults(text: str) -> None:
    assert isinstance(read_scenario(text), list)


@pytest.mark.parametrize("name", preset_names())
def test_each_preset_can_be_read_and_expects_something(name: str) -> None:
    scenario = preset(name)
    assert scenario.name == name
    assert scenario.expectations


def test_the_nine_presets_are_there() -> None:
    assert preset_names() == sorted(
        [
            "capacity-and-heartbeat",
            "dispatch-cycle",
            "der-export-limit",
            "soc-cycle",
            "power-state-transitions",
            "bess-mode-truth-table",
            "peak-shaving-day",
            "full-controller",
            "bad-gateway",
        ]
    )
    assert len({preset(name).depot_id for name in preset_names()}) == 9


def test_the_contract_names_the_variables_that_there_are() -> None:
    schema = json.loads(read_contract(CONTRACT))
    aspects = schema["properties"]["initial"]["properties"]
    assert {f"{aspect}.{name}" for aspect, one in aspects.items() for name in one["properties"]} == set(VARIABLES)
    assert set(schema["properties"]["timeline"]["items"]["properties"]) - {"at", "over"} == set(VARIABLES)


def test_the_contract_is_a_schema() -> None:
    Draft202012Validator.check_schema(json.loads(read_contract(CONTRACT)))


def test_the_guide_names_every_variable() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
    assert [name for name in VARIABLES if f"`{name}`" not in guide] == []


def test_a_scenario_is_told_of_its_seed_and_steps() -> None:
    scenario = small("initial: {}", step="2s")
    assert (scenario.steps, scenario.seed, isinstance(scenario, Scenario)) == (5, 1, True)
