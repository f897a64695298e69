"""`depotgrid balance explain FILE` answers from a scenario, from a bare input, and says so when it cannot."""

import json
from pathlib import Path

import pytest

from operator_cli.balance import app

SCENARIOS = Path(__file__).parents[2] / "contracts" / "balancing"


def run(*arguments: str | Path) -> int:
    code = app(["explain", *map(str, arguments)], result_action="return_value")
    assert isinstance(code, int)
    return code


def test_each_charger_gets_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(SCENARIOS / "c2-unequal-demands.json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "curtailed: 500.0 of 1130.0 kW (GRID_CONNECTION_LIMIT, CHARGER_CIRCUIT_LIMIT)"
    assert lines[9] == "K3-1 gets 33.3 of 150 kW: charger circuit K3 is full (120 kW, circuit rating)"
    assert len(lines) == 17


def test_a_bare_input_will_do_and_json_holds_result_and_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = json.loads((SCENARIOS / "flat-site.json").read_text(encoding="utf-8"))
    bare = tmp_path / "site.json"
    bare.write_text(json.dumps(scenario["input"]), encoding="utf-8")
    assert run(bare, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["leaves"] == scenario["expected"]["leaves"]
    assert answer["sentences"]["cp-2"] == "cp-2 gets all of the 20 kW it asked for"


def test_an_input_that_cannot_be_balanced_exits_with_1_and_names_the_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(SCENARIOS / "rejected-cycle.json") == 1
    assert capsys.readouterr().err == "rejected (INVALID_TOPOLOGY): K1: part of a cycle; K1-1: part of a cycle\n"
    assert run(SCENARIOS / "rejected-cycle.json", "--json") == 1
    assert json.loads(capsys.readouterr().out)["node_ids"] == ["K1", "K1-1"]


@pytest.mark.parametrize(("text", "code"), [("{", 2), ("[]", 1), ('{"input": 7}', 1), ('{"nodes": [NaN], "demands": []}', 1)])
def test_a_file_of_another_form_is_told_and_nothing_raises(
    tmp_path: Path, text: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "odd.json"
    file.write_text(text, encoding="utf-8")
    assert run(file) == code
    assert capsys.readouterr().err


def test_a_file_that_is_not_there_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "none.json") == 2
    assert "none.json" in capsys.readouterr().err
