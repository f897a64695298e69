"""Real services for tests: one PostgreSQL, Mosquitto and Kafka per run, each started when the first test asks for it.

A test that asks for one of them is marked `services` by itself. Their state lives in a folder of the run that goes away with it.
Tests that stop, restart or kill a service make their own (`EmbeddedPostgres(tmp)` and so on), never these.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from deploy.dev.embedded_kafka import EmbeddedKafka
from hypothesis.internal.conjecture import providers

from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from operator_cli.embedded_postgres import EmbeddedPostgres
from tests.real_services.schema import migrate

_SERVICE_FIXTURES = frozenset({"postgres", "database_url", "empty_database_url", "mosquitto", "kafka", "service_folder"})
_TEMPLATE = "depotgrid_template"
_numbers = itertools.count(1)

# A gate must say the same of the same change twice; elsewhere every run looks in new places. How long an example takes, or its
# making, says something of the machine and nothing of the code.
_IN_CI = bool(os.environ.get("CI"))
_CI_SEED = 1
_ANYWHERE = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("ci", _ANYWHERE, derandomize=False, database=None, print_blob=True)
hypothesis.settings.register_profile("elsewhere", _ANYWHERE)
hypothesis.settings.load_profile("ci" if _IN_CI else "elsewhere")


def _nothing_is_ours(path: str) -> bool:
    return False


if _IN_CI:
    # Examples are also made of the constants in whatever code of ours is loaded: an edit anywhere would draw others everywhere.
    providers.is_local_module_file = _nothing_is_ours  # pyright: ignore[reportPrivateImportUsage] - there is no setting for it


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # A seed for all, and none from the text of each test: an edit of a test's words must not draw other examples.
    if _IN_CI and config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = _CI_SEED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and _SERVICE_FIXTURES.intersection(item.fixturenames):
            item.add_marker(pytest.mark.services)


@pytest.fixture(scope="session")
def _run_folder() -> Iterator[Path]:  # pyright: ignore[reportUnusedFunction] - a fixture is used by its name
    # Not pytest's own temporary folder: a parallel run takes its access rights for other users back, under our running servers.
    folder = Path(tempfile.mkdtemp(prefix="depotgrid-tests-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def service_folder(_run_folder: Path) -> Path:
    """A fresh folder for a service that a test starts and stops itself; short enough a path for sockets."""
    folder = _run_folder / f"own-{next(_numbers)}"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def postgres(_run_folder: Path) -> Iterator[EmbeddedPostgres]:
    """The run's PostgreSQL server, where nothing goes on in the background."""
    with EmbeddedPostgres(_run_folder / "postgres") as server:
        # Its moments are nobody's: an ANALYZE makes another plan, and while its transaction lasts, followers see nothing newer.
        server.execute("ALTER SYSTEM SET autovacuum = off")
        server.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture(scope="session")
def _migrated_template(postgres: EmbeddedPostgres) -> str:  # pyright: ignore[reportUnusedFunction] - a fixture is used by its name
    migrate(postgres.create_database(_TEMPLATE))
    return _TEMPLATE


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, _migrated_template: str) -> Iterator[str]:
    """`postgresql://` address of a database of this test's own, at the newest migration and otherwise empty."""
    yield from _database(postgres, _migrated_template)


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """`postgresql://` address of a database of this test's own with nothing in it."""
    yield from _database(postgres, "template1")


@pytest.fixture(scope="session")
def mosquitto(_run_folder: Path) -> Iterator[EmbeddedMosquitto]:
    """The run's MQTT broker. Sessions and retained messages outlive a test: use client ids and gateway ids of your own."""
    with EmbeddedMosquitto(_run_folder / "mosquitto") as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka(_run_folder: Path) -> Iterator[EmbeddedKafka]:
    """The run's Kafka broker. Topics outlive a test: use topic and group names of your own."""
    with EmbeddedKafka(_run_folder / "kafka") as broker:
        yield broker


def _database(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    yield server.create_database(name, template=template)
    server.drop_database(name)
