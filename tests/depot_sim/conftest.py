"""One running Depotgrid for the simulator's runs: databases, brokers, worker, both APIs, and the presets' depots in it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.depot_sim.product_stack import PATIENCE_S, ProductStack, unhurried_site
from tests.real_services.kafka_publisher import start_group_at_end

from depot_sim.presets import preset_names
from operator_cli.embedded_process import free_port


@pytest.fixture(scope="session")
def product(_run_folder: Path, kafka: EmbeddedKafka) -> Iterator[ProductStack]:
    """A product that runs, with the depot of every preset."""
    folder = Path(tempfile.mkdtemp(prefix="sim-", dir=_run_folder))
    group = f"{folder.name}-group"
    asyncio.run(start_group_at_end(kafka.bootstrap_servers, group, 4))
    port, mqtt_port = free_port(), free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DEPOTGRID_")}
    options = ["--data-dir", str(folder / "data"), "--port", str(port), "--mqtt-port", str(mqtt_port)]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "operator_cli", "up", *options, "--kafka", kafka.bootstrap_servers],
            env={**inherited, "DEPOTGRID_KAFKA_GROUP_ID": group},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("depotgrid is up"), (folder / "up.log").read_text()[-3000:]
        stack = ProductStack(folder, port, mqtt_port, kafka.bootstrap_servers)
        for name in preset_names():
            stack.load(unhurried_site(name))
        yield stack
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        process.stdout.close()
