"""The committed scenarios: well formed, answered as they say, and kept as text that another implementation can be held to."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.load_balancer.write_scenarios import SCENARIOS

from load_balancer import Rejected
from load_balancer.json_form import Case, read_case, write_case, write_result

FOLDER = Path(__file__).parents[2] / "contracts" / "balancing"
FILES = sorted(path for path in FOLDER.glob("*.json") if path.name != "scenario.schema.json")
SCHEMA: dict[str, Any] = json.loads((FOLDER / "scenario.schema.json").read_text(encoding="utf-8"))
WATT = 0.001


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def near(value: Any) -> Any:
    """Numbers to a watt, all else exactly."""
    if isinstance(value, float):
        return pytest.approx(value, abs=WATT)
    if isinstance(value, dict):
        return {key: near(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [near(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_scenario_has_its_file_and_every_file_its_scenario() -> None:
    assert {path.stem for path in FILES} == set(SCENARIOS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_scenario_is_well_formed(path: Path) -> None:
    Draft202012Validator(SCHEMA).validate(read(path))  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_scenario_is_answered_as_it_says(path: Path) -> None:
    document = read(path)
    case = read_case(document["input"])
    assert isinstance(case, Case)
    answer = write_result(case.allocate())
    answer.pop("detail", None)
    assert answer == near(document["expected"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_input_survives_being_read_and_written(path: Path) -> None:
    document = read(path)
    case = read_case(document["input"])
    assert isinstance(case, Case)
    assert write_case(case) == document["input"]


def test_the_flat_site_is_the_same_under_nodes_without_limits() -> None:
    flat, under = (read(FOLDER / f"{name}.json")["expected"] for name in ("flat-site", "flat-site-under-unlimited-nodes"))
    assert flat["leaves"] == under["leaves"]
    assert {row["node_id"]: row for row in under["nodes"]}["depot"] == {row["node_id"]: row for row in flat["nodes"]}["depot"]


ODD_DOCUMENTS: list[tuple[Any, str, str]] = [
    ({}, "INVALID_TOPOLOGY", "/nodes"),
    ({"nodes": 7, "demands": []}, "INVALID_TOPOLOGY", "/nodes"),
    ({"nodes": [{"node_id": "a", "parent_id": None}], "demands": []}, "INVALID_TOPOLOGY", "/nodes/0"),
    ({"nodes": [{"node_id": "a", "parent_id": None, "kind": "BUS"}], "demands": []}, "INVALID_TOPOLOGY", "/nodes/0"),
    ({"nodes": []}, "INVALID_DEMAND", "/demands"),
    ({"nodes": [], "demands": [{}]}, "INVALID_DEMAND", "/demands/0"),
    ({"nodes": [], "demands": [{"leaf_id": "a", "requested_kw": 1, "arrived_at": "noon"}]}, "INVALID_DEMAND", "/demands/0"),
    ({"nodes": [], "demands": [], "policy": "RANDOM"}, "INVALID_DEMAND", "/"),
    ([], "INVALID_TOPOLOGY", "/nodes"),
]


@pytest.mark.parametrize(("document", "code", "place"), ODD_DOCUMENTS)
def test_a_document_of_another_shape_is_rejected_with_the_place(document: Any, code: str, place: str) -> None:
    rejected = read_case(document)
    assert isinstance(rejected, Rejected)
    assert rejected.reason_codes == (code,)
    assert rejected.detail.startswith(f"{place}: ")
