"""Services of their own for tests that pull plugs, and the table of their figures at the end of the run.

The short form runs with every test run; `FAULTS=full` gives the sizes of `make faults`, and writes the page of its figures.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.faults.load import FULL, MakeStack, Stack
from tests.faults.report_page import PAGE, REJECTED_PAGE, Run, page, this_commit, this_machine
from tests.real_services.comparison import FaultReport
from tests.real_services.schema import migrate

from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from operator_cli.embedded_postgres import EmbeddedPostgres

_TEMPLATE = "depotgrid_template"
_numbers = itertools.count(1)
_reports: list[FaultReport] = []
_left_out: list[str] = []
"""Tests and files of ours that this run does without."""
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _is_ours(item):
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.services)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    _left_out.extend(item.nodeid for item in items if _is_ours(item))


def pytest_collection_finish(session: pytest.Session) -> None:
    chosen = {item.path for item in session.items}
    _left_out.extend(str(path) for path in _HERE.glob("test_*.py") if path not in chosen)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _reports:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(FaultReport.header())
    for report in _reports:
        terminalreporter.write_line(report.row())
    if FULL:
        terminalreporter.write_line(f"\nwritten to {_write_page(terminalreporter)}")


def _write_page(terminalreporter: pytest.TerminalReporter) -> Path:
    outcomes: dict[str, list[pytest.TestReport]] = terminalreporter.stats
    run = Run(
        at=datetime.now(UTC),
        commit=this_commit(),
        machine=this_machine(),
        is_whole=not _left_out,
        skipped={
            one.nodeid.rpartition("::")[2]: one.longrepr[2]
            for one in outcomes.get("skipped", ())
            if isinstance(one.longrepr, tuple)
        },
    )
    failed = any(outcomes.get(kind) for kind in ("failed", "error"))
    target = REJECTED_PAGE if failed else PAGE
    target.parent.mkdir(exist_ok=True)
    target.write_text(page(_reports, run, PAGE.read_text() if PAGE.exists() else ""))
    return target


def _is_ours(item: pytest.Item) -> bool:
    return item.path.is_relative_to(_HERE)


@pytest.fixture
def note() -> Callable[[FaultReport], FaultReport]:
    """Puts a run's figures into the table at the end."""

    def noted(report: FaultReport) -> FaultReport:
        _reports.append(report)
        return report

    return noted


@pytest.fixture(scope="session")
def own_postgres(tmp_path_factory: pytest.TempPathFactory, _run_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that fault tests may stop and kill; each leaves it running."""
    with EmbeddedPostgres(_run_folder / "faulty-postgres") as server:
        migrate(server.create_database(_TEMPLATE))
        yield server


@pytest.fixture(scope="session")
def own_kafka(_run_folder: Path) -> Iterator[EmbeddedKafka]:
    """A Kafka that fault tests may stop and kill; each leaves it running."""
    with EmbeddedKafka(_run_folder / "faulty-kafka") as broker:
        yield broker


@pytest.fixture
def own_mosquitto(service_folder: Path) -> Iterator[EmbeddedMosquitto]:
    """A Mosquitto of this test's own."""
    with EmbeddedMosquitto(service_folder / "mosquitto") as broker:
        yield broker


@pytest.fixture
async def another_stack(own_postgres: EmbeddedPostgres, _run_folder: Path) -> AsyncGenerator[MakeStack]:
    """Makes databases with a fleet of devices, each with the workers that a test starts on it."""
    made: list[Stack] = []
    databases: list[str] = []

    async def make() -> Stack:
        own_postgres.start()
        folder = _run_folder / f"stack-{next(_numbers)}"
        folder.mkdir()
        databases.append(database := f"faults_{folder.name.replace('-', '_')}")
        made.append(stack := await Stack.make(own_postgres.create_database(database, template=_TEMPLATE), folder))
        return stack

    yield make
    for stack in made:
        stack.end_workers()
    own_postgres.start()
    for database in databases:
        own_postgres.drop_database(database)


@pytest.fixture
async def stack(another_stack: MakeStack) -> Stack:
    """A database with a fleet of devices, and the workers that a test starts on it."""
    return await another_stack()
