"""`depotgrid pages`: the built web pages and how one signs in, as files for a web server of yours (`deploy/nginx.conf`)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from operator_cli.output import say
from operator_cli.pages import ASSETS, CONFIG, INDEX, sign_in_config
from operator_cli.places import CommandFault, pages_folder, settings_or_fault
from operator_cli.sign_in_origins import NotDescribed, sign_in_origins
from service_runtime.settings import Settings

PAGES, SIGN_IN = "pages", "sign-in.conf"


def pages(folder: Annotated[Path, Parameter(help="is made if it is not there; the web server reads it")]) -> int:
    """Write the web pages and how one signs in to a folder for a web server of yours."""
    settings = settings_or_fault()
    built = pages_folder(settings)
    if not (built / INDEX.lstrip("/")).is_file():
        raise CommandFault(
            f"the web pages are not built: {built} has none; build them with `deploy/dev/setup demo`, or give DEPOTGRID_WEB_DIR"
        )
    origins = _origins(settings)
    try:
        write_pages(built, folder, msgspec.json.encode(sign_in_config(settings)), origins)
    except OSError as fault:
        raise CommandFault(f"{folder}: {fault.strerror or fault}; choose a folder that can be written") from fault
    say(f"{folder}: the pages in {PAGES}/, and {SIGN_IN} for the configuration of nginx")
    return 0


def write_pages(built: Path, folder: Path, config: bytes, origins: Sequence[str]) -> None:
    """Bring a folder to a build while a web server reads it.

    New parts come first, then the page that names them, then parts that only an older build names go. Each file is replaced whole.
    """
    served = folder / PAGES
    files = [path.relative_to(built) for path in sorted(built.rglob("*")) if path.is_file()]
    wanted = [path for path in files if not any(part.startswith(".") for part in path.parts)]
    wanted.sort(key=lambda path: path.parts[0] != ASSETS)
    for path in wanted:
        _replace(served / path, (built / path).read_bytes())
    _replace(served / CONFIG.lstrip("/"), config)
    for path in (served / ASSETS).iterdir() if (served / ASSETS).is_dir() else ():
        if path.relative_to(served) not in wanted:
            path.unlink()
    _replace(folder / SIGN_IN, sign_in_conf(origins).encode())


def sign_in_conf(origins: Sequence[str]) -> str:
    """What nginx.conf includes: the origins that a page connects to, each behind a space."""
    return f'# Written by `depotgrid pages`.\nset $sign_in_origins "{"".join(f" {one}" for one in origins)}";\n'


def _origins(settings: Settings) -> tuple[str, ...]:
    if settings.auth != "oidc":
        return ()
    if settings.oidc_issuer is None or settings.oidc_client_id is None:
        missing = "DEPOTGRID_OIDC_ISSUER" if settings.oidc_issuer is None else "DEPOTGRID_OIDC_CLIENT_ID"
        raise CommandFault(f"{missing}: is not set, and without it nobody can sign in on the pages")
    found = asyncio.run(sign_in_origins(settings.oidc_issuer))
    if isinstance(found, NotDescribed):
        raise CommandFault(found.line)
    return found


def _replace(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(body)
    # Whoever reads it may be another user than the one who writes it.
    fresh.chmod(0o644)
    fresh.replace(path)
