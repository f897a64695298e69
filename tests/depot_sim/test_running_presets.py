"""The presets against a running product: what they expect holds over every way of sending, and their evidence is the same.

`FAULTS=full` runs every preset over every way; else all of them over MQTT and a few over the others.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import httpx2
import pytest
from tests.depot_sim.product_stack import PATIENCE_S, Finished, ProductStack
from tests.real_services.waiting import until

from depot_sim.evidence import COMPARED, CONFIRMED, INTERRUPTED, JUNIT, OUTCOMES, PACKETS, PASSED, find_run, list_runs
from depot_sim.presets import preset_names, preset_site, preset_text
from operator_cli.embedded_process import free_port

pytestmark = pytest.mark.services

_AT_ONCE = 5
_SOME = {"http": ("bad-gateway", "capacity-and-heartbeat"), "kafka": ("bad-gateway", "dispatch-cycle")}
_FULL = os.environ.get("FAULTS") == "full"


def _played(product: ProductStack, via: str) -> dict[str, Finished]:
    names = preset_names() if via == "mqtt" or _FULL else list(_SOME[via])
    ended: dict[str, Finished] = {}
    for first in range(0, len(names), _AT_ONCE):
        running = {name: product.start("run", name, "--via", via, "--pace", "fast") for name in names[first : first + _AT_ONCE]}
        ended |= {name: product.finish(process) for name, process in running.items()}
    return ended


@pytest.fixture(scope="module")
def mqtt_runs(product: ProductStack) -> dict[str, Finished]:
    return _played(product, "mqtt")


@pytest.fixture(scope="module")
def other_runs(product: ProductStack, mqtt_runs: dict[str, Finished]) -> dict[tuple[str, str], Finished]:
    assert mqtt_runs  # one way after the other: two runs in one depot at a time would meddle with each other
    return {(via, name): run for via in _SOME for name, run in _played(product, via).items()}


@pytest.mark.parametrize("name", preset_names())
def test_over_mqtt_everything_expected_is_seen(mqtt_runs: dict[str, Finished], name: str) -> None:
    ended = mqtt_runs[name]
    assert (ended.status, ended.run and ended.run.status) == (0, PASSED), ended.said


@pytest.mark.parametrize(
    ("via", "name"), [(via, name) for via, some in _SOME.items() for name in (preset_names() if _FULL else some)]
)
def test_over_another_way_it_is_the_same_byte_for_byte(
    mqtt_runs: dict[str, Finished], other_runs: dict[tuple[str, str], Finished], via: str, name: str
) -> None:
    ended, first = other_runs[via, name], mqtt_runs[name]
    assert ended.status == 0, ended.said
    assert ended.run is not None
    assert first.run is not None
    assert ended.run.about["epoch"] != first.run.about["epoch"]
    files = (*COMPARED, JUNIT)
    assert [name for name in files if (ended.run.folder / name).read_bytes() != (first.run.folder / name).read_bytes()] == []


def test_diff_says_that_two_such_runs_tell_the_same_and_where_two_others_part(
    product: ProductStack, mqtt_runs: dict[str, Finished], other_runs: dict[tuple[str, str], Finished], tmp_path: Path
) -> None:
    one, other = mqtt_runs["bad-gateway"].run, other_runs["kafka", "bad-gateway"].run
    assert one is not None
    assert other is not None
    same = product.sim("diff", one.run_id, other.run_id)
    assert (same.status, same.said) == (0, "the runs tell the same\n")
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(_with_less_patience(preset_text("bad-gateway")))
    seeded = product.sim("run", str(scenario), "--pace", "fast", "--via", "http", "--seed", "20")
    assert seeded.run is not None
    parted = product.sim("diff", one.run_id, seeded.run.run_id)
    assert parted.status == 1
    # The first thing that the seed decides in this scenario are the duplicates from 10 s on.
    assert re.match(r"the runs part at step 1\d, at 1\ds \(packets.jsonl, line \d+\)\n", parted.said), parted.said


def _with_less_patience(text: str) -> str:
    head, _, expectations = text.partition("expectations:")
    return f"{head}expectations:{expectations.replace('{at:', '{within: 500ms, at:')}"


def test_a_wrong_binding_makes_the_right_expectation_fail(product: ProductStack, tmp_path: Path) -> None:
    site = preset_site("dispatch-cycle").replace("sim-dispatch", "sim-wrong").replace(", profile: bba-microgrid-controller", "")
    names = ("BESS_OPERATIONAL_MODE", "DISPATCH_STATE", "SOC", "PEAK_SHAVING")
    actions = [f"  - {{device_id: sim-wrong-ctrl-1, measurand: {name}, action: RECORD_MEASUREMENT}}" for name in names]
    # Peak shaving is fed by what the controller says of DER.
    binding = "{device_id: sim-wrong-ctrl-1, capabilities: [{capability: PEAK_SHAVING, measurand: DER}]}"
    actions.append("  - {device_id: sim-wrong-meter-1, measurand: SOC, action: RECORD_MEASUREMENT, enabled: false}")
    product.load("\n".join([site, "sensor_actions:", *actions, f"controller_bindings: [{binding}]", ""]))
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(_with_less_patience(preset_text("dispatch-cycle")))
    ended = product.sim("run", str(scenario), "--depot", "sim-wrong", "--pace", "fast", "--via", "http")
    assert ended.status == 1
    assert re.findall(r"FAIL (.*)", ended.said) == [
        "at 900s (step 15): card.PEAK_SHAVING expected ON, seen OFF",
    ]
    assert ended.run is not None
    assert "card.PEAK_SHAVING expected ON, seen OFF" in (ended.run.folder / JUNIT).read_text()


def test_an_altered_expectation_fails_alone(product: ProductStack, tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.yaml"
    text = preset_text("full-controller").replace("circuit.available_capacity_kw: 250", "circuit.available_capacity_kw: 251")
    scenario.write_text(_with_less_patience(text))
    ended = product.sim("run", str(scenario), "--pace", "fast", "--via", "http")
    assert ended.status == 1
    assert re.findall(r"FAIL (.*)", ended.said) == ["at 15s (step 15): circuit.available_capacity_kw expected 251, seen 250.0"]


def test_a_site_model_makes_no_difference(product: ProductStack, mqtt_runs: dict[str, Finished]) -> None:
    site = (
        preset_site("full-controller").replace("sim-full", "sim-model").replace("site_model_name: null", "site_model_name: model-1")
    )
    product.load(site)
    ended = product.sim("run", "full-controller", "--depot", "sim-model", "--pace", "fast")
    assert ended.status == 0, ended.said
    without = mqtt_runs["full-controller"].run
    assert ended.run is not None
    assert without is not None
    for name in COMPARED:
        assert (ended.run.folder / name).read_text().replace("sim-model", "sim-full") == (without.folder / name).read_text()


def test_what_a_depot_lacks_is_named_and_nothing_is_sent(product: ProductStack) -> None:
    before = len(list_runs(product.data_dir / "runs"))
    ended = product.sim("run", "peak-shaving-day", "--depot", "sim-soc")
    assert ended.status == 1
    for word in (
        "HEARTBEAT_STATUS",
        "bound to PEAK_SHAVING",
        "one controller",
        "kind SOLAR",
        "kind GRID",
        "record LIMIT_DER_EXPORT",
    ):
        assert word in ended.said
    assert len(list_runs(product.data_dir / "runs")) == before


def test_a_depot_that_is_not_there_is_named_with_the_cure(product: ProductStack) -> None:
    ended = product.sim("run", "soc-cycle", "--depot", "nowhere")
    assert ended.status == 1
    assert "there is no depot nowhere" in ended.said
    assert "depotgrid sim site soc-cycle" in ended.said


def test_with_the_same_epoch_the_packets_themselves_are_the_same(product: ProductStack, tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(preset_text("power-state-transitions").partition("expectations:")[0])
    epoch = ("--epoch", "2026-11-20T21:00:00Z")
    runs = [product.sim("run", str(scenario), "--pace", "fast", "--via", "http", *epoch).run for _ in range(2)]
    sent = [[(one["packet_id"], one["sha256"]) for one in run.lines("sent.jsonl")] for run in runs if run is not None]
    assert len(sent) == 2
    assert sent[0] == sent[1] != []


async def test_a_killed_simulator_leaves_evidence_of_what_was_confirmed(product: ProductStack) -> None:
    process = product.start("run", "dispatch-cycle", "--pace", "200x")  # 18 s at least
    runs = product.data_dir / "runs"

    def confirmed() -> int:
        found = [run for run in list_runs(runs) if run.about["pace"] == "200×"]
        return sum(1 for _ in found[0].lines(CONFIRMED)) if found else 0

    await until(lambda: confirmed() >= 10, "ten packets are confirmed", timeout_s=60)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)
    (run,) = [run for run in list_runs(runs) if run.about["pace"] == "200×"]
    last = max(entry["n"] for entry in run.lines(CONFIRMED))
    assert run.status == INTERRUPTED
    assert [entry["n"] for entry in run.lines(PACKETS)] == list(range(sum(1 for _ in run.lines(PACKETS))))
    shown = product.sim("show", run.run_id)
    assert shown.status == 1
    assert f"confirmed, up to packet {last}" in shown.said
    # Each packet that was confirmed has become events, under the id that the evidence has for it.
    ids = {entry["n"]: entry["packet_id"] for entry in run.lines("sent.jsonl")}

    def stored() -> bool:
        found = httpx2.get(f"{product.url}/api/device/sim-dispatch-ctrl-1/report", params={"limit": 300}, timeout=30).json()[
            "items"
        ]
        more = httpx2.get(f"{product.url}/api/device/sim-dispatch-meter-1/report", params={"limit": 300}, timeout=30).json()[
            "items"
        ]
        return {ids[entry["n"]] for entry in run.lines(CONFIRMED)} <= {one["packet_id"] for one in [*found, *more]}

    await until(stored, "what was confirmed is stored", timeout_s=60)


def test_a_stopped_run_says_so(product: ProductStack) -> None:
    process = product.start("run", "soc-cycle", "--json")
    runs = product.data_dir / "runs"
    while not [run for run in list_runs(runs) if run.about["pace"] == "real"]:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert (json.loads(said)["status"], json.loads(said)["aborted"]) == ("ABORTED", "it was stopped")


def test_a_broker_that_is_not_there_ends_the_run_with_its_reason(product: ProductStack) -> None:
    nowhere = f"mqtt://127.0.0.1:{free_port()}"
    ended = product.sim("run", "soc-cycle", "--pace", "fast", "--mqtt-url", nowhere, "--patience", "1")
    assert ended.status == 1
    assert ended.run is not None
    assert ended.run.status == "ABORTED"
    assert "confirms nothing" in ended.said
    assert (len(list(ended.run.lines(PACKETS))), list(ended.run.lines(CONFIRMED)), list(ended.run.lines(OUTCOMES))) == (1, [], [])
    assert find_run(product.data_dir / "runs", ended.run.run_id) is not None


def test_a_fleet_makes_its_depots_and_all_that_it_sends_is_stored(product: ProductStack) -> None:
    ended = product.sim("fleet", "--depots", "5", "--rate", "50", "--seconds", "2", "--json")
    # Whether a busy machine holds the rate is for no test to say; what is told of it must be there.
    result = json.loads(ended.said)
    assert (result["confirmed"], result["held"]) == (100, ended.status == 0)
    depots = httpx2.get(f"{product.url}/api/depot", params={"limit": 500}, timeout=30).json()["items"]
    assert [one["depot_id"] for one in depots if one["depot_id"].startswith("fleet-")] == [f"fleet-0000{n}" for n in range(5)]
