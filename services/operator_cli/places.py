"""Where a command finds the services: what it is told, else the settings, else what `depotgrid up` wrote into its data folder.

`up` keeps `run.json` in `--data-dir` while it runs: addresses of everything, readable by its owner alone, since the database's
address holds a password.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from service_runtime.settings import Settings, SettingsFault, load_settings

RUN_FILE = "run.json"
DEV_KEY_FILE = "dev-issuer-key.json"
DEFAULT_DATA_DIR = Path(".depotgrid")

DataDir = Annotated[Path, Parameter(help="the folder in which `depotgrid up` keeps its state")]
DatabaseUrl = Annotated[str | None, Parameter(help="PostgreSQL; else DEPOTGRID_DATABASE_URL, else that of `depotgrid up`")]
ApiUrl = Annotated[str | None, Parameter(help="the HTTP API; else DEPOTGRID_API_URL, else that of `depotgrid up`")]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="as JSON, for other programs")]


class CommandFault(Exception):
    """A command can not do what it was asked for; the message is for a person and names the cure. Exit status 1."""


class UsageFault(Exception):
    """A command was asked for something that it can not even try; settings included. Exit status 2."""


@dataclass(frozen=True, slots=True)
class RunFile:
    """What runs under a data folder, and where it listens."""

    pid: int
    api_url: str
    database_url: str
    mqtt_url: str
    kafka_bootstrap_servers: str | None = None


def read_run_file(data_dir: Path) -> RunFile | None:
    """What `up` wrote, or None where no `up` of that folder runs."""
    try:
        found = RunFile(**json.loads((data_dir / RUN_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return found if _lives(found.pid) else None


def write_run_file(data_dir: Path, run: RunFile) -> None:
    """Keep the addresses, replaced at once and readable by us alone."""
    fresh = data_dir / f"{RUN_FILE}.new"
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(run), file, indent=1)
    fresh.replace(data_dir / RUN_FILE)


def find_database(told: str | None, data_dir: Path) -> str:
    """The database's address; UsageFault where nothing says it."""
    settings = settings_or_fault(database_url=told)
    if settings.database_url is not None:
        return settings.database_url
    if (run := read_run_file(data_dir)) is not None:
        return run.database_url
    raise UsageFault(f"no database: give --database-url or DEPOTGRID_DATABASE_URL, or start `depotgrid up --data-dir {data_dir}`")


def find_api(told: str | None, data_dir: Path) -> str:
    """The HTTP API's address without a trailing slash; UsageFault where nothing says it."""
    settings = settings_or_fault(api_url=told)
    url = settings.api_url
    if url is None and (run := read_run_file(data_dir)) is not None:
        url = run.api_url
    if url is None:
        raise UsageFault(f"no API: give --api-url or DEPOTGRID_API_URL, or start `depotgrid up --data-dir {data_dir}`")
    if not url.startswith(("http://", "https://")):
        raise UsageFault(f"DEPOTGRID_API_URL: {url!r} does not begin with http:// or https://; give http://127.0.0.1:8080")
    return url.rstrip("/")


def authorization() -> dict[str, str]:
    """The header that tells the HTTP API who asks; none where no token is given, which is enough where access is off."""
    token = settings_or_fault().api_token
    if token is None:
        return {}
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UsageFault("DEPOTGRID_API_TOKEN: is no access token; give what the issuer or `depotgrid token` prints")
    return {"Authorization": f"Bearer {token}"}


def dev_key_file(settings: Settings, data_dir: Path) -> Path:
    """The file of the local issuer's key: the one that the settings name, else the one that `up` keeps in its data folder."""
    return settings.dev_key_file if settings.source_of("dev_key_file") != "default" else data_dir / DEV_KEY_FILE


def pages_folder(settings: Settings) -> Path:
    """The folder of the built web pages: the one that the settings name, else that of the package or checkout, built or not."""
    here = Path(__file__).resolve()
    packed = here.with_name("built_pages")
    return settings.web_dir or (packed if packed.is_dir() else here.parents[1] / "web" / "dist")


def settings_or_fault(**told: object) -> Settings:
    """The settings with what the command line says on top; UsageFault with a line for each that is wrong."""
    settings = load_settings(**told)  # pyright: ignore[reportArgumentType] - setting names are the caller's
    if isinstance(settings, Settings):
        return settings
    raise UsageFault("\n".join(line_of(fault, told) for fault in settings))


def line_of(fault: SettingsFault, told: dict[str, object]) -> str:
    """A fault in the words of whoever gave the value: the option, where the command line gave it."""
    name = fault.variable.removeprefix("DEPOTGRID_").lower()
    option = f"--{name.replace('_', '-')}"
    return f"{option}: {fault.problem}; {fault.cure}" if told.get(name) is not None else fault.line()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
