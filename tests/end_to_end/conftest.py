"""A site with its own broker, database and worker; one per module where tests keep out of each other's way, else one per test."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests.end_to_end.controller_site import Site
from tests.real_services.sites import seed_controller
from tests.real_services.worker_process import WorkerProcess

from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from operator_cli.embedded_postgres import EmbeddedPostgres

HEARTBEAT_TIMEOUT_S = 2.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.services)


@contextlib.contextmanager
def _made(postgres: EmbeddedPostgres, template: str, run_folder: Path) -> Generator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="site-", dir=run_folder))
    database = folder.name.replace("-", "_").lower()
    url = postgres.create_database(database, template=template)
    asyncio.run(seed_controller(url, heartbeat_timeout_s=HEARTBEAT_TIMEOUT_S))
    with EmbeddedMosquitto(folder / "mosquitto") as broker, WorkerProcess(folder, url, mqtt_url=broker.url()) as worker:
        asyncio.run(worker.consuming_mqtt())
        made = Site(url, broker, worker, folder)
        yield made
        for other in made.workers:
            if other.running:
                other.kill9()
    postgres.drop_database(database)


@pytest.fixture
def site(postgres: EmbeddedPostgres, _migrated_template: str, _run_folder: Path) -> Iterator[Site]:
    """A site of this test's own: one controller whose heartbeat times out after 2 s, and one worker."""
    with _made(postgres, _migrated_template, _run_folder) as made:
        yield made


@pytest.fixture(scope="module")
def shared_site(postgres: EmbeddedPostgres, _migrated_template: str, _run_folder: Path) -> Iterator[Site]:
    """The same, shared by the tests of a module: use device and packet ids of your own."""
    with _made(postgres, _migrated_template, _run_folder) as made:
        yield made
