"""The simulator's commands as a process: `python -m depot_sim COMMAND …`, which `depotgrid sim` becomes.

Exit status: 0 done, 1 failed (an expectation, a run, a scenario with faults), 2 wrong usage or settings. Where the product is, the
settings say; where the evidence is, `--runs`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import structlog

from depot_sim.demo import Demo
from depot_sim.diff import parting
from depot_sim.evidence import CONFIRMED, EXPECTATIONS, PACKETS, PASSED, Run, find_run, list_runs
from depot_sim.fleet import LANES, FleetResult, FleetWish, drive, make_depots
from depot_sim.mqtt_sender import MqttSender
from depot_sim.pacing import Pacing, read_pace
from depot_sim.presets import preset_names, preset_site, preset_text, scenario_text
from depot_sim.product import Product, ProductFault
from depot_sim.run_command import Addresses, Refused, RunWish, look_at_depot, open_sender, play, with_depot
from depot_sim.runs_api import runs_app
from depot_sim.scenario import Scenario, read_scenario
from depot_sim.sending import PATIENCE_S, UndeliveredError
from sensor_packet.timestamps import parse_timestamp
from service_runtime.access import open_access
from service_runtime.dev_key import DevKeyFault
from service_runtime.health import ListenError, serve
from service_runtime.logs import configure_logging
from service_runtime.settings import Settings, load_settings

log = structlog.get_logger("depot_sim")

DONE, FAILED, WRONG_USAGE = 0, 1, 2
_FOLLOWED_S = 1.0


class _UsageError(Exception):
    """What was asked for can not even be tried; the text says why."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; gives the exit status."""
    given = _parser().parse_args(arguments)
    try:
        status: int = given.command(given)
    except _UsageError as fault:
        _complain(str(fault))
        return WRONG_USAGE
    except ProductFault as fault:
        _complain(str(fault))
        return FAILED
    except KeyboardInterrupt:
        return 130
    return status


def _list(given: argparse.Namespace) -> int:
    rows: list[dict[str, Any]] = []
    for name in preset_names():
        scenario = read_scenario(preset_text(name))
        if isinstance(scenario, Scenario):
            rows.append({"scenario": name, "depot": scenario.depot_id, "duration_s": scenario.duration_s, "title": scenario.title})
    runs = [_row_of_run(one) for one in list_runs(given.runs)]
    if given.json:
        _say(json.dumps({"scenarios": rows, "runs": runs}, indent=2, ensure_ascii=False))
        return DONE
    _table(("scenario", "depot", "what it tells"), [(row["scenario"], row["depot"], row["title"]) for row in rows])
    if runs:
        _say("")
        _table(("run", "via", "pace", "status", "confirmed"), [tuple(row.values()) for row in runs])
    return DONE


def _check(given: argparse.Namespace) -> int:
    scenario = _scenario(given)
    if scenario is None:
        return FAILED
    _say(f"{scenario.name}: {scenario.steps} steps of {scenario.step_s:g} s, {len(scenario.expectations)} expectations")
    settings = _settings()
    if settings.api_url is None:
        _say("not compared with a depot: no DEPOTGRID_API_URL and no running `depotgrid up`")
        return DONE

    async def compare() -> object:
        product = Product(_addresses(settings).api_url, _headers(settings))
        try:
            return await look_at_depot(scenario, product)
        finally:
            await product.close()

    refused = asyncio.run(compare())
    if isinstance(refused, Refused):
        return _refuse(scenario, refused)
    _say(f"depot {scenario.depot_id} can carry it")
    return DONE


def _run(given: argparse.Namespace) -> int:
    scenario = _scenario(given)
    if scenario is None:
        return FAILED
    pace = read_pace(given.pace)
    if pace is None:
        raise _UsageError(f"--pace {given.pace}: give real, fast or a factor such as 60x")
    epoch = parse_timestamp(given.epoch) if given.epoch is not None else None
    if given.epoch is not None and epoch is None:
        raise _UsageError(f"--epoch {given.epoch}: give a time with an offset, such as 2026-11-20T21:00:00Z")
    settings = _settings()
    addresses = _addresses(settings)
    _need_broker(given.via, addresses)
    configure_logging("depotgrid-sim", level=settings.log_level, style=settings.log_format)
    seed = scenario.seed if given.seed is None else given.seed
    wish = RunWish(scenario, given.via, pace, seed, epoch, given.runs, given.patience)
    takes_s = Pacing(scenario, pace).real_s(scenario.duration_s)
    outcome = asyncio.run(_stoppable(wish, addresses, _progress(scenario, takes_s)))
    if isinstance(outcome, Refused):
        return _refuse(scenario, outcome)
    ended = find_run(given.runs, outcome.run_id)
    if ended is not None:
        _show_run(ended, as_json=given.json)
    return DONE if outcome.status == PASSED else FAILED


async def _stoppable(wish: RunWish, addresses: Addresses, progress: Callable[[float, int], None]) -> Any:
    playing = asyncio.ensure_future(play(wish, addresses, _now, progress))
    _stop_at_signals(playing.cancel)
    return await playing


def _show(given: argparse.Namespace) -> int:
    found = _found(given.runs, given.run)
    _show_run(found, as_json=given.json)
    return DONE if found.status == PASSED else FAILED


def _diff(given: argparse.Namespace) -> int:
    one, other = _found(given.runs, given.run), _found(given.runs, given.other)
    found = parting(one, other)
    if given.json:
        told = None if found is None else {name: getattr(found, name) for name in ("file", "line", "step", "at_s", "differences")}
        _say(json.dumps({"parting": told}, indent=2, ensure_ascii=False))
    else:
        _say("the runs tell the same" if found is None else "\n".join(found.told()))
    return DONE if found is None else FAILED


def _site(given: argparse.Namespace) -> int:
    if given.scenario not in preset_names():
        raise _UsageError(f"no preset is called {given.scenario!r}; there are {', '.join(preset_names())}")
    sys.stdout.write(preset_site(given.scenario))
    return DONE


def _demo(given: argparse.Namespace) -> int:
    settings = _settings()
    addresses = _addresses(settings)
    if addresses.mqtt_url is None:
        raise _UsageError("no MQTT broker: give DEPOTGRID_MQTT_URL")
    configure_logging("depotgrid-sim", level=settings.log_level, style=settings.log_format)

    async def tell() -> None:
        sender = MqttSender(addresses.mqtt_url or "", "depotgrid-demo-gateway", patience_s=math.inf)
        demo = Demo(given.depot, Product(addresses.api_url, addresses.headers), sender, _now)
        telling = asyncio.ensure_future(demo.run())
        _stop_at_signals(telling.cancel)
        try:
            await telling
        except asyncio.CancelledError:
            log.info("the demo left", confirmed=demo.confirmed)

    asyncio.run(tell())
    return DONE


def _fleet(given: argparse.Namespace) -> int:
    settings = _settings()
    addresses = _addresses(settings)
    _need_broker(given.via, addresses)
    configure_logging("depotgrid-sim", level=settings.log_level, style=settings.log_format)
    wish = FleetWish(given.depots, given.rate, given.seconds, given.prefix)

    async def drive_it() -> FleetResult:
        made = await make_depots(wish, addresses.api_url, addresses.headers, _counted("depots made"))
        if made:
            # A worker follows a change within a second; what comes before would be of an unknown device.
            await asyncio.sleep(_FOLLOWED_S)
        senders = [open_sender(given.via, addresses, PATIENCE_S) for _ in range(min(LANES, wish.depots))]
        try:
            return await drive(wish, senders, _now, _rate_shown())
        finally:
            await asyncio.gather(*(sender.close() for sender in senders))

    try:
        result = asyncio.run(drive_it())
    except UndeliveredError as fault:
        _complain(str(fault))
        return FAILED
    if given.json:
        told = {name: getattr(result, name) for name in ("asked_per_s", "confirmed_per_s", "deviation", "held", "took_s", "waited")}
        _say(json.dumps({**told, "confirmed": result.confirmed, "by_second": result.by_second}, indent=2))
    else:
        _say(result.told())
    return DONE if result.held else FAILED


def _counted(what: str) -> Callable[[int, int], None]:
    def show(done: int, of: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{done} of {of} {what}" + ("\n" if done == of else ""))

    return show


def _rate_shown() -> Callable[[float, int], None]:
    shown = 0

    def show(elapsed_s: float, confirmed: int) -> None:
        nonlocal shown
        if sys.stderr.isatty() and int(elapsed_s) > shown:
            shown = int(elapsed_s)
            sys.stderr.write(f"{shown:4d} s: {confirmed} confirmed, {confirmed / elapsed_s:.0f}/s\n")

    return show


def _need_broker(via: str, addresses: Addresses) -> None:
    if via == "mqtt" and addresses.mqtt_url is None:
        raise _UsageError("no MQTT broker: give DEPOTGRID_MQTT_URL or start `depotgrid up`")
    if via == "kafka" and addresses.kafka is None:
        raise _UsageError("no Kafka: give DEPOTGRID_KAFKA_BOOTSTRAP_SERVERS or start `depotgrid up --kafka …`")


def _serve(given: argparse.Namespace) -> int:
    settings = _settings()
    configure_logging("depotgrid-sim-runs", level=settings.log_level, style=settings.log_format)

    async def until_signal() -> None:
        stop = asyncio.Event()
        _stop_at_signals(stop.set)
        app = runs_app(given.runs, open_access(settings, _now))
        async with serve(app, settings.http_host, settings.http_port) as port:
            log.info("serving", address=f"http://{settings.http_host}:{port}/api/sim/run")
            await stop.wait()

    try:
        asyncio.run(until_signal())
    except (ListenError, DevKeyFault) as fault:
        _complain(str(fault))
        return FAILED
    return DONE


def _stop_at_signals(stop: Callable[[], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)


def _show_run(run: Run, *, as_json: bool) -> None:
    checks = list(run.lines(EXPECTATIONS))
    confirmed = [entry["n"] for entry in run.lines(CONFIRMED)]
    planned = sum(1 for _ in run.lines(PACKETS))
    last = max(confirmed, default=None)
    if as_json:
        about = {**run.about, "status": run.status, "written": planned, "confirmed": len(confirmed), "last_confirmed": last}
        _say(json.dumps({**about, "expectations": checks}, indent=2, ensure_ascii=False))
        return
    about = run.about
    _say(f"{run.run_id}: {run.status}  ({about['scenario']} in {about['depot_id']} via {about['via']}, seed {about['seed']})")
    up_to = "" if last is None else f", up to packet {last}"
    _say(f"packets: {planned} written, {len(confirmed)} confirmed{up_to}")
    for check in checks:
        told = check.get("message") or f"at {check['at_s']:g}s {check['asked']}"
        _say(f"  {'ok  ' if check['held'] else 'FAIL'} {told}")
    if about.get("aborted"):
        _say(f"ended before its time: {about['aborted']}")
    _say(f"evidence: {run.folder}")


def _row_of_run(run: Run) -> dict[str, Any]:
    confirmed = sum(1 for _ in run.lines(CONFIRMED))
    return {
        "run": run.run_id,
        "via": run.about.get("via"),
        "pace": run.about.get("pace"),
        "status": run.status,
        "confirmed": confirmed,
    }


def _scenario(given: argparse.Namespace) -> Scenario | None:
    try:
        name, text = scenario_text(given.scenario)
    except (OSError, UnicodeDecodeError) as fault:
        raise _UsageError(f"{given.scenario}: is neither a preset nor a file that can be read ({fault})") from fault
    scenario = read_scenario(text)
    if isinstance(scenario, Scenario):
        return with_depot(scenario, given.depot)
    for fault in scenario:
        _complain(fault.line(name))
    return None


def _refuse(scenario: Scenario, refused: Refused) -> int:
    for reason in refused.reasons:
        _complain(f"{scenario.name}: {reason}")
    return FAILED


def _found(runs: Path, run_id: str) -> Run:
    found = find_run(runs, run_id)
    if found is None:
        raise _UsageError(f"no run {run_id!r} under {runs}; `depotgrid sim list` names them")
    return found


def _settings() -> Settings:
    settings = load_settings()
    if isinstance(settings, Settings):
        return settings
    raise _UsageError("\n".join(fault.line() for fault in settings))


def _addresses(settings: Settings) -> Addresses:
    if settings.api_url is None:
        raise _UsageError("no API: give DEPOTGRID_API_URL or start `depotgrid up`")
    return Addresses(settings.api_url.rstrip("/"), settings.mqtt_url, settings.kafka_bootstrap_servers, _headers(settings))


def _headers(settings: Settings) -> dict[str, str]:
    return {"Authorization": f"Bearer {settings.api_token}"} if settings.api_token is not None else {}


def _progress(scenario: Scenario, takes_s: float) -> Callable[[float, int], None]:
    if not sys.stderr.isatty() or takes_s < 2:
        return lambda _at_s, _confirmed: None

    def show(at_s: float, confirmed: int) -> None:
        done = at_s / scenario.duration_s
        sys.stderr.write(f"\r{scenario.name}: {done:4.0%}, {confirmed} packets confirmed" + ("\n" if done >= 1 else ""))
        sys.stderr.flush()

    return show


def _table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    lines = [tuple(map(str, row)) for row in (headings, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        _say("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _complain(text: str) -> None:
    for line in text.splitlines():
        sys.stderr.write(f"depotgrid: {line}\n")
    sys.stderr.flush()


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the simulator owns its clock


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _complain(f"{message}. See `depotgrid sim --help`.")
        raise SystemExit(WRONG_USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="depotgrid sim", description="The depot simulator.")
    commands = parser.add_subparsers(required=True, parser_class=_Parser)

    def command(name: str, does: Callable[[argparse.Namespace], int], *words: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name)
        added.set_defaults(command=does)
        added.add_argument("--runs", type=Path, default=Path(".depotgrid") / "runs")
        added.add_argument("--json", action="store_true")
        for word in words:
            added.add_argument(word)
        return added

    command("list", _list)
    command("site", _site, "scenario")
    command("check", _check, "scenario").add_argument("--depot")
    running = command("run", _run, "scenario")
    running.add_argument("--depot")
    running.add_argument("--via", choices=("mqtt", "kafka", "http"), default="mqtt")
    running.add_argument("--pace", default="real")
    running.add_argument("--seed", type=int)
    running.add_argument("--epoch")
    running.add_argument("--patience", type=float, default=PATIENCE_S)
    command("show", _show, "run")
    command("diff", _diff, "run", "other")
    fleet = command("fleet", _fleet)
    fleet.add_argument("--depots", type=int, default=1000)
    fleet.add_argument("--rate", type=float, default=5000.0)
    fleet.add_argument("--seconds", type=float, default=30.0)
    fleet.add_argument("--prefix", default="fleet")
    fleet.add_argument("--via", choices=("mqtt", "kafka", "http"), default="mqtt")
    command("serve", _serve)
    command("demo", _demo).add_argument("--depot", default="demo-depot")
    return parser
