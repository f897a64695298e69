"""The database's volume fills up under load: what is acknowledged is stored, nothing is dead-lettered, and it goes on afterwards.

A full disk has two shapes. Where a table can not grow, PostgreSQL refuses the transaction (SQLSTATE 53100) and lives. Where its log
can not grow, it must not go on: it panics, ends every connection, and comes back by itself or is started again by whoever runs it;
while the disk stays full it may fail at that, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.faults.load import DEVICES, SharedFault, Stack, came_back, kafka_load, mqtt_load, sized
from tests.real_services.comparison import FaultReport
from tests.real_services.schema import migrate
from tests.real_services.sites import rows, seed_fleet
from tests.real_services.small_volume import NoVolumeError, SmallVolume
from tests.real_services.waiting import until
from tests.real_services.worker_process import WorkerProcess

from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from operator_cli.embedded_postgres import EmbeddedPostgres
from operator_cli.embedded_process import ServiceFailedError, own_folder, service_account

Note = Callable[[FaultReport], FaultReport]
MakeVolume = Callable[[int], SmallVolume]

_MB = 1024 * 1024
_BACK_S = 5.0
_FULL_S = sized(1, 10)
_RATE = 2_000
_PACKETS = sized(12_000, 150_000)
_LEFT_FOR_TABLES = 14 * _MB
"""Less than a segment of PostgreSQL's log, and more than the tables grow while such a segment is written."""


@pytest.fixture
def small_volume(service_folder: Path) -> Iterator[MakeVolume]:
    """Mounts a volume of so many bytes, which goes with the test; skips it where that is not permitted."""
    with contextlib.ExitStack() as mounted:

        def mount(size_bytes: int) -> SmallVolume:
            try:
                return mounted.enter_context(SmallVolume(service_folder / "small-volume", size_bytes))
            except NoVolumeError as fault:
                pytest.skip(str(fault))

        yield mount


async def _has_no_space(worker: WorkerProcess) -> bool:
    status, reasons = await worker.get("/readyz")
    return status == 503 and "No space left on device" in reasons


async def test_tables_that_can_not_grow_cost_nothing(
    own_postgres: EmbeddedPostgres,
    own_mosquitto: EmbeddedMosquitto,
    kafka: EmbeddedKafka,
    small_volume: MakeVolume,
    service_folder: Path,
    note: Note,
) -> None:
    own_postgres.start()
    volume = small_volume(96 * _MB)
    space = own_folder(volume.folder / "space", service_account())
    own_postgres.execute(f"CREATE TABLESPACE small_volume LOCATION '{space}'")
    stacks: list[Stack] = []
    try:
        for name in ("disk_full_mqtt", "disk_full_kafka"):
            own_postgres.execute(f"CREATE DATABASE {name} TEMPLATE depotgrid_template TABLESPACE small_volume")
            url = own_postgres.url(name)
            stacks.append(Stack(url, service_folder, await seed_fleet(url, DEVICES)))
        await _fill_and_free(stacks, volume, own_mosquitto, kafka, note)
    finally:
        volume.throw_ballast_off()  # a full disk can not even be cleared up
        for stack in stacks:
            stack.end_workers()
        for name in ("disk_full_mqtt", "disk_full_kafka"):
            own_postgres.drop_database(name)
        own_postgres.execute("DROP TABLESPACE small_volume")


async def _fill_and_free(
    stacks: list[Stack], volume: SmallVolume, mosquitto: EmbeddedMosquitto, kafka: EmbeddedKafka, note: Note
) -> None:
    over_mqtt, over_kafka = stacks
    await over_kafka.begin_kafka(kafka.bootstrap_servers)
    over_kafka.worker(kafka=kafka.bootstrap_servers)
    await over_mqtt.worker(mqtt_url=mosquitto.url()).consuming_mqtt()

    async def fill() -> float:
        volume.leave_free(_MB)
        for stack in stacks:
            await until(lambda stack=stack: _has_no_space(stack.workers[-1]), "the worker meets the full disk", timeout_s=60)
        # Whatever it had acknowledged would be gone with it now.
        over_mqtt.workers[-1].kill9()
        over_mqtt.worker(mqtt_url=mosquitto.url())
        await until(lambda: _has_no_space(over_mqtt.workers[-1]), "its successor meets the full disk", timeout_s=60)
        await asyncio.sleep(_FULL_S)  # the outage itself, not a wait for anything
        for stack in stacks:
            assert (await rows(stack.database_url, "SELECT count(*) FROM dead_letter"))[0][0] == 0
        volume.throw_ballast_off()
        return time.monotonic()

    shared, packets = SharedFault(2, fill), over_mqtt.plan(_PACKETS)
    reports = await asyncio.gather(
        mqtt_load(over_mqtt, "disk full, tables can not grow, MQTT", mosquitto.port, packets, shared, rate=_RATE),
        kafka_load(over_kafka, "disk full, tables can not grow, Kafka", kafka.bootstrap_servers, packets, shared, rate=_RATE),
    )
    for report in list(map(note, reports)):
        assert report.flawless, report.row()
        assert report.dead_letters == 0
        assert came_back(report, _BACK_S), report.row()


async def test_a_log_that_can_not_grow_ends_the_server_and_costs_nothing(
    own_mosquitto: EmbeddedMosquitto, small_volume: MakeVolume, service_folder: Path, note: Note
) -> None:
    volume = small_volume(192 * _MB)
    server = EmbeddedPostgres(service_folder / "postgres")
    with server:
        migrate(server.create_database("disk_full"))
    _move(service_folder / "postgres" / "data", volume.folder / "data")
    with server:
        stack = await Stack.make(server.url("disk_full"), service_folder)
        try:
            await _panic_and_free(stack, server, volume, own_mosquitto, note)
        finally:
            stack.end_workers()
            server.kill9()


async def _panic_and_free(
    stack: Stack, server: EmbeddedPostgres, volume: SmallVolume, mosquitto: EmbeddedMosquitto, note: Note
) -> None:
    worker = stack.worker(mqtt_url=mosquitto.url())
    await worker.consuming_mqtt()
    log = stack.folder / "postgres" / "postgres.log"

    async def fill() -> float:
        volume.leave_free(_LEFT_FOR_TABLES)
        await until(lambda: "PANIC" in log.read_text(), "PostgreSQL can not write its log", timeout_s=120)
        assert "No space left on device" in log.read_text()
        full_until = time.monotonic() + _FULL_S
        while time.monotonic() < full_until:
            volume.leave_free(0)
            # As a person would who does not look at the disk first.
            await asyncio.to_thread(server.kill9)
            with contextlib.suppress(ServiceFailedError):
                await asyncio.to_thread(server.start)
            await asyncio.sleep(0.1)
        volume.throw_ballast_off()
        await asyncio.to_thread(server.start)
        return time.monotonic()

    name = "disk full, the log can not grow (PANIC), MQTT"
    # A segment of the log, 16 MB, is of 11,000 packets; so many come at full rate after those before the fault.
    report = note(await mqtt_load(stack, name, mosquitto.port, stack.plan(sized(32_000, 150_000)), fill))
    assert report.flawless, report.row()
    assert report.dead_letters == 0
    assert came_back(report, _BACK_S), report.row()
    assert worker.running


def _move(folder: Path, to: Path) -> None:
    """Move a folder to another file system, with its owners, and leave a link in its place."""
    subprocess.run(("/bin/cp", "-a", str(folder), str(to)), check=True)
    subprocess.run(("/bin/rm", "-r", str(folder)), check=True)
    folder.symlink_to(to)
