"""`depotgrid sim`: the depot simulator takes this process over, and is told here where everything is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from cyclopts import App, Parameter
from cyclopts.validators import Number

from operator_cli.places import DEFAULT_DATA_DIR, ApiUrl, AsJson, DataDir, read_run_file, settings_or_fault

RUNS = "runs"
Scenario = Annotated[str, Parameter(help="the name of a preset, or the path of a scenario file")]
RunName = Annotated[str, Parameter(help="a run's name, as `sim list` shows it")]
Depot = Annotated[str | None, Parameter(help="another depot than the scenario names")]
MqttUrl = Annotated[str | None, Parameter(help="the broker; else DEPOTGRID_MQTT_URL, else that of `depotgrid up`")]
Kafka = Annotated[str | None, Parameter(help="else DEPOTGRID_KAFKA_BOOTSTRAP_SERVERS, else that of `depotgrid up`")]

app = App(name="sim", help="Play a depot's devices by a scenario, and keep evidence of what came of it.")


@app.command(name="list")
def list_all(*, data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> NoReturn:
    """Name the presets and the runs."""
    _become("list", data_dir, as_json=as_json)


@app.command
def site(scenario: Annotated[str, Parameter(help="the name of a preset")], /) -> NoReturn:
    """Write the site file of a preset's depot to standard output, for `depotgrid site import -`."""
    _become("site", DEFAULT_DATA_DIR, scenario)


@app.command
def check(scenario: Scenario, /, *, depot: Depot = None, api_url: ApiUrl = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> NoReturn:
    """Name every fault of a scenario with its line, and everything that the depot lacks to carry it."""
    _become("check", data_dir, scenario, depot=depot, api_url=api_url)


@app.command
def run(
    scenario: Scenario,
    /,
    *,
    depot: Depot = None,
    via: Annotated[Literal["mqtt", "kafka", "http"], Parameter(help="how the packets travel")] = "mqtt",
    pace: Annotated[str, Parameter(help="real, fast, or a factor such as 60x")] = "real",
    seed: Annotated[int | None, Parameter(help="another seed than the scenario's")] = None,
    epoch: Annotated[str | None, Parameter(help="the time at which the story begins; now where left out")] = None,
    patience: Annotated[float, Parameter(help="seconds without any confirmation after which the run gives up")] = 20.0,
    api_url: ApiUrl = None,
    mqtt_url: MqttUrl = None,
    kafka: Kafka = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> NoReturn:
    """Play a scenario, check what it expects, and keep the evidence under the data folder's `runs`."""
    _become(
        "run",
        data_dir,
        scenario,
        as_json=as_json,
        api_url=api_url,
        mqtt_url=mqtt_url,
        kafka=kafka,
        depot=depot,
        via=via,
        pace=pace,
        seed=None if seed is None else str(seed),
        epoch=epoch,
        patience=f"{patience:g}",
    )


@app.command
def show(run: RunName, /, *, data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> NoReturn:
    """Tell how a run ended, up to where its packets were confirmed, and what each expectation came to."""
    _become("show", data_dir, run, as_json=as_json)


@app.command
def diff(run: RunName, other: RunName, /, *, data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> NoReturn:
    """Tell the first step at which two runs part; exit status 0 where they tell the same."""
    _become("diff", data_dir, run, other, as_json=as_json)


@app.command
def fleet(
    *,
    depots: Annotated[int, Parameter(help="how many", validator=Number(gte=1, lte=100_000))] = 1000,
    rate: Annotated[float, Parameter(help="packets per second of all together", validator=Number(gt=0))] = 5000,
    seconds: Annotated[float, Parameter(help="for how long", validator=Number(gt=0))] = 30,
    prefix: Annotated[str, Parameter(help="what the depots' ids begin with")] = "fleet",
    via: Annotated[Literal["mqtt", "kafka", "http"], Parameter(help="how the packets travel")] = "mqtt",
    api_url: ApiUrl = None,
    mqtt_url: MqttUrl = None,
    kafka: Kafka = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> NoReturn:
    """Load: make depots over HTTP and report from all of them at a steady rate; fails where the rate can not be held within 2 %."""
    _become(
        "fleet",
        data_dir,
        as_json=as_json,
        api_url=api_url,
        mqtt_url=mqtt_url,
        kafka=kafka,
        depots=str(depots),
        rate=f"{rate:g}",
        seconds=f"{seconds:g}",
        prefix=prefix,
        via=via,
    )


@app.command
def serve(*, data_dir: DataDir = DEFAULT_DATA_DIR) -> NoReturn:
    """Show the runs of a data folder over HTTP, until Ctrl-C; `depotgrid up` does so by itself."""
    _become("serve", data_dir)


def _become(
    command: str,
    data_dir: Path,
    *words: str,
    as_json: bool = False,
    api_url: str | None = None,
    mqtt_url: str | None = None,
    kafka: str | None = None,
    **options: str | None,
) -> NoReturn:
    settings = settings_or_fault(api_url=api_url, mqtt_url=mqtt_url, kafka_bootstrap_servers=kafka)
    running = read_run_file(data_dir)
    addresses = {
        "API_URL": settings.api_url or (running.api_url if running else None),
        "MQTT_URL": settings.mqtt_url or (running.mqtt_url if running else None),
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or (running.kafka_bootstrap_servers if running else None),
    }
    told = {f"DEPOTGRID_{name}": value for name, value in addresses.items() if value is not None}
    given = [part for name, value in options.items() if value is not None for part in (f"--{name}", value)]
    arguments = [
        command,
        *given,
        "--runs",
        str(data_dir / RUNS),
        *(["--json"] if as_json else []),
        *(["--", *words] if words else []),
    ]
    # The simulator takes this process over, so that signals reach it and its exit status is ours.
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "depot_sim", *arguments], {**os.environ, **told})  # noqa: S606 - our own
