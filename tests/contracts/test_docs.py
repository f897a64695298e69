"""The documentation and the code name the same reason codes, and links between pages lead somewhere.

Which codes the code can produce is read from its syntax trees: each way of making a refusal has one argument that is its code. A
way that no longer occurs fails the test, so that a renamed function can not empty the list unnoticed.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from command_api.codes import CODES
from read_api.remediation import advice
from sensor_packet.battery_mode import MODES
from sensor_packet.catalogue import CATALOGUE
from sensor_packet.decode import decode
from sensor_packet.packet import ClaimedIdentity, Packet
from service_runtime.metrics import BridgeMetrics, IngestMetrics, RelayMetrics
from service_runtime.request_watch import HttpMetrics, StreamMetrics
from service_runtime.settings import Settings, variable
from site_registry.site_file import SiteDocument, parse_site

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for folder in ("libs", "services")
    for path in (ROOT / folder).rglob("*.py")
    if not {"migrations", "node_modules"}.intersection(path.parts)
)
PAGES = sorted([ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
GUIDES = sorted((ROOT / "docs").glob("*.md"))
CODE = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
QUOTED = re.compile(r"`([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)*)`")
NOT_OURS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "CREATEROLE"}
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


class Way(NamedTuple):
    """A call that makes a refusal: the function's name, and where its code stands among the arguments."""

    function: str
    position: int


WAYS = (
    Way("Fault", 0),  # a packet's or a measurand's broken rule
    Way("NotAuthorised", 0),  # who may not speak
    Way("Unroutable", 1),  # no target
    Way("_single", 2),  # several targets
    Way("Refused", 4),  # an action that can not be done
    Way("_letter", 1),  # a dead letter made on the way to the store
    Way("SiteFault", 1),  # what is wrong with a site file
    Way("_List", 2),  # a reference within one that leads nowhere
    Way("Problem", 1),  # an HTTP answer
    Way("TokenRefused", 0),  # a token that does not hold
    Way("FieldFault", 1),  # one field of it
    Way("PydanticCustomError", 0),  # a parameter's own validator
)
# Made from the name of what is not there: `not_found("DEPOT", …)`.
NOT_FOUND = Way("not_found", 0)
OUT_OF_REACH = set[str]()


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def texts_in(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def calls(way: Way) -> Iterator[ast.expr]:
    """The code's argument in each call of a way."""
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and len(node.args) > way.position:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
                if name == way.function:
                    yield node.args[way.position]


def codes_of(way: Way) -> set[str]:
    found = (argument.value for argument in calls(way) if isinstance(argument, ast.Constant) and isinstance(argument.value, str))
    return {code for code in found if CODE.fullmatch(code)}


@cache
def codes_by_http_status() -> frozenset[str]:
    """The codes that `service_runtime.problem` gives to faults that frameworks raise, from its two tables."""
    tree = trees()[ROOT / "libs/service_runtime/problem.py"]
    tables = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return frozenset(text for name in ("_CODES", "_STATUS_CODES") for text in texts_in(tables[name]) if text.isupper())


@cache
def codes_in_site_schema() -> frozenset[str]:
    found = re.findall(r'"x-code": "([A-Z_]+)"', (ROOT / "contracts/site.schema.json").read_text(encoding="utf-8"))
    return frozenset(found)


@cache
def codes_in_returned_pairs() -> frozenset[str]:
    """`measurand_fault` and its like give (code, sentence)."""
    tree = trees()[ROOT / "libs/site_registry/site_references.py"]
    pairs = (node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple))
    return frozenset(
        first.value
        for pair in pairs
        if isinstance(first := pair.elts[0], ast.Constant) and isinstance(first.value, str) and CODE.fullmatch(first.value)
    )


@cache
def codes() -> frozenset[str]:
    """Every reason code that a user can meet."""
    found = {code for way in WAYS for code in codes_of(way)}
    found |= {f"{kind}_NOT_FOUND" for kind in codes_of(NOT_FOUND)}
    found |= codes_by_http_status() | codes_in_site_schema() | codes_in_returned_pairs() | set(CODES)
    return frozenset(found - OUT_OF_REACH)


@cache
def reasons_of_the_balancer() -> frozenset[str]:
    """The balancer's reasons are no refusals: they stand in its allocations as plain texts."""
    folder = ROOT / "libs/load_balancer"
    return frozenset(text for path, tree in trees().items() if path.is_relative_to(folder) for text in texts_in(tree))


@cache
def words() -> frozenset[str]:
    """Every upper-case word that the code or the contracts know: codes, states, keys of measurands, actions."""
    in_code = {text for tree in trees().values() for text in texts_in(tree)}
    in_contracts: set[str] = set()
    for path in (ROOT / "contracts").rglob("*.json"):
        if "packets" not in path.parts:
            in_contracts.update(re.findall(r'"([A-Z][A-Z0-9_]+)"', path.read_text(encoding="utf-8")))
    settings = {variable(name) for name in Settings.model_fields}
    in_migrations = {
        word
        for path in (ROOT / "deploy/migrations").rglob("*.py")
        for word in re.findall(r"'([A-Z][A-Z_]+)'", path.read_text(encoding="utf-8"))
    }
    return frozenset(in_code | in_contracts | settings | in_migrations | set(MODES) | set(CATALOGUE) | codes())


def tables(page: Path) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Each Markdown table of a page: its headings and its rows."""
    rows: list[list[str]] = []
    for line in [*page.read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        elif rows:
            yield rows[0], rows[2:]
            rows = []


def codes_in_tables(page: Path) -> set[str]:
    found: set[str] = set()
    for headings, rows in tables(page):
        for column, heading in enumerate(headings):
            if heading.startswith("code"):
                found.update(code for row in rows for code in QUOTED.findall(row[column]))
    return found


@pytest.mark.parametrize("way", [*WAYS, NOT_FOUND], ids=lambda way: way.function)
def test_every_way_of_making_a_code_is_in_use(way: Way) -> None:
    assert any(isinstance(argument, ast.Constant) for argument in calls(way))


@pytest.mark.parametrize("code", sorted(codes()))
def test_every_reason_code_that_the_code_can_produce_is_explained_in_a_table(code: str) -> None:
    assert code in {known for page in GUIDES for known in codes_in_tables(page)}


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_every_code_in_a_table_exists_in_the_code(page: Path) -> None:
    assert codes_in_tables(page) - codes() - reasons_of_the_balancer() == set()


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_every_upper_case_word_in_the_guides_exists_in_the_code(page: Path) -> None:
    assert {word for word in QUOTED.findall(page.read_text(encoding="utf-8")) if word not in words()} <= NOT_OURS


def test_every_remediation_code_has_advice_in_the_answer_and_in_the_guide() -> None:
    remediable = {
        code.value
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", None) == "Unroutable"
        and getattr(node.args[0], "id", "") == "REMEDIATION"
        if isinstance(code := node.args[1], ast.Constant) and isinstance(code.value, str)
    } | codes_of(Way("_single", 2))
    explained = [rows for headings, rows in tables(ROOT / "docs/routing.md") if headings[0] == "code"]
    assert {code for row in explained[0] for code in QUOTED.findall(row[0])} == remediable
    assert all(advice(code) != advice("") for code in remediable)


def test_the_mode_tables_of_the_guide_are_those_of_the_contract() -> None:
    contract = json.loads((ROOT / "contracts/bess-operational-mode.json").read_text(encoding="utf-8"))
    by_heading = {tuple(headings): rows for headings, rows in tables(ROOT / "docs/packets.md")}
    modes = by_heading["#", "power state", "dispatch state", "peak shaving", "DER", "mode"]
    flags = {True: "yes", False: "no", None: ""}
    assert [
        (int(row[0]), set(QUOTED.findall(row[1])), set(QUOTED.findall(row[2])), row[3], row[4], QUOTED.findall(row[5])[0])
        for row in modes
    ] == [
        (
            row["row"],
            {state for state in row.get("power_state", ()) if state},
            {state for state in row.get("dispatch_state", ()) if state},
            flags[row.get("peak_shaving")],
            flags[row.get("der")],
            row["mode"],
        )
        for row in contract["rows"]
    ]
    words_of = {True: "on", False: "off", None: "no change"}
    read_back = {mode: row[1:] for row in by_heading["mode", "peak shaving", "DER"] for mode in QUOTED.findall(row[0])}
    assert read_back == {
        mode: [words_of[feeds["PEAK_SHAVING"]], words_of[feeds["DER"]]] for mode, feeds in contract["capabilities"].items()
    }


def test_every_key_of_the_catalogue_is_in_the_guide_to_packets() -> None:
    (rows,) = [rows for headings, rows in tables(ROOT / "docs/packets.md") if headings[0] == "key"]
    assert [key for row in rows for key in QUOTED.findall(row[0])] == list(CATALOGUE)


def test_the_metrics_of_the_guide_are_those_that_the_processes_show() -> None:
    registry = CollectorRegistry()
    IngestMetrics(registry)
    HttpMetrics(registry)
    StreamMetrics(registry)
    RelayMetrics(registry)
    BridgeMetrics(registry)
    shown = {f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in registry.collect()}
    (rows,) = [rows for headings, rows in tables(ROOT / "docs/running.md") if headings[0] == "name"]
    assert {row[0].strip("`") for row in rows} == shown


def test_the_paths_of_the_guide_are_those_of_the_read_api() -> None:
    document = json.loads((ROOT / "contracts/openapi.read.json").read_text(encoding="utf-8"))
    (rows,) = [rows for headings, rows in tables(ROOT / "docs/reading.md") if headings[0] == "path"]
    assert {path for row in rows for path in re.findall(r"`(/api/[^`]*)`", row[0])} == set(document["paths"])


def test_the_packet_in_the_guide_is_taken_whole() -> None:
    example = re.findall(r"```json\n(.*?)```", (ROOT / "docs/packets.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    received_at = datetime(2026, 11, 20, 21, 0, 1, tzinfo=UTC)
    packet = decode(example.encode(), received_at=received_at, claimed=ClaimedIdentity("gw-1", "ctrl-1"))
    assert isinstance(packet, Packet)
    assert packet.refused == ()


def test_the_site_in_the_guide_and_the_example_file_can_be_loaded() -> None:
    example = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/site-file.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    for text in (example, (ROOT / "deploy/examples/depot-1.yaml").read_text(encoding="utf-8")):
        assert isinstance(parse_site(text), SiteDocument)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_of_the_repository(page: Path) -> None:
    targets = [link.partition("#")[0] for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [target for target in targets if target and not (page.parent / target).resolve().exists()] == []


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_every_guide_is_in_the_index(page: Path) -> None:
    index = ROOT / "docs/README.md"
    assert page == index or page.name in LINK.findall(index.read_text(encoding="utf-8"))
