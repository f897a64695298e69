"""`depotgrid dead-letter`: what could not be taken, by cause or one by one, as the read API tells it; and its replay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any, cast
from urllib.parse import quote

import httpx2
from cyclopts import App, Parameter

from operator_cli.output import say, show_json, show_table
from operator_cli.places import DEFAULT_DATA_DIR, ApiUrl, AsJson, CommandFault, DataDir, authorization, find_api
from operator_cli.replay_command import discard, replay

app = App(name="dead-letter", help="What could not be taken, and why.")
app.command(replay, name="replay")
app.command(discard, name="discard")
_PAGE = 500
_TIMEOUT_S = 10.0


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class _Filters:
    reason_code: Annotated[str | None, Parameter(name=["--reason-code", "--reason"], help="such as NO_POWER_SOURCE")] = None
    stage: Annotated[str | None, Parameter(help="DECODE, VALIDATE, AUTHORISE, ROUTE or APPLY")] = None
    status: Annotated[str | None, Parameter(help="PENDING, REPLAYED or DISCARDED")] = None
    depot_id: Annotated[str | None, Parameter(name=["--depot-id", "--depot"])] = None
    gateway_id: Annotated[str | None, Parameter(name=["--gateway-id", "--gateway"])] = None
    device_id: Annotated[str | None, Parameter(name=["--device-id", "--device"])] = None
    since: Annotated[str | None, Parameter(help="last failed at or after; RFC 3339 with an offset")] = None
    until: Annotated[str | None, Parameter(help="last failed before")] = None

    @property
    def query(self) -> dict[str, str]:
        return {name: value for name, value in asdict(self).items() if value is not None}


_NO_FILTERS = _Filters()


@app.command(name="list")
def list_letters(
    filters: _Filters = _NO_FILTERS,
    *,
    limit: Annotated[int, Parameter(help="at most so many")] = 50,
    api_url: ApiUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> int:
    """List dead letters, last failed first."""
    letters = list(_letters(find_api(api_url, data_dir), filters.query, limit))
    if as_json:
        show_json({"items": letters})
        return 0
    columns = ("last_failed_at", "reason_code", "status", "attempts", "gateway_id", "device_id", "detail", "dead_letter_id")
    show_table(columns, [[letter[name] for name in columns] for letter in letters])
    return 0


@app.command
def show(dead_letter_id: str, *, api_url: ApiUrl = None, data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> int:
    """Show one dead letter with the bytes that came."""
    letter = _get(find_api(api_url, data_dir), f"/api/dead-letter/{quote(dead_letter_id, safe='')}", {})
    if as_json:
        show_json(letter)
        return 0
    body = letter.pop("body")
    show_table(("field", "value"), letter.items())
    say("")
    say(body)
    return 0


@app.command
def group(
    filters: _Filters = _NO_FILTERS,
    *,
    by: Annotated[str, Parameter(help="fields to count by, separated by commas")] = "reason_code",
    api_url: ApiUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> int:
    """Count dead letters by cause, most first."""
    found = _get(find_api(api_url, data_dir), "/api/dead-letter", {**filters.query, "group_by": by})["items"]
    if as_json:
        show_json({"items": found})
        return 0
    fields = by.split(",")
    columns = ("count", "bodies_dropped", "first_at", "last_at", "sample_id")
    show_table(
        (*fields, *columns), [[*(one["group"][field] for field in fields), *(one.get(name) for name in columns)] for one in found]
    )
    return 0


def _letters(api: str, query: dict[str, str], limit: int) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while limit > 0:
        page = _get(api, "/api/dead-letter", {**query, "limit": str(min(limit, _PAGE)), **({"cursor": cursor} if cursor else {})})
        yield from page["items"]
        limit -= len(page["items"])
        cursor = page["next"]
        if cursor is None:
            return


def _get(api: str, path: str, query: dict[str, str]) -> dict[str, Any]:
    try:
        answer = httpx2.get(api + path, params=query, headers=authorization(), timeout=_TIMEOUT_S)
    except httpx2.HTTPError as fault:
        raise CommandFault(f"{api} does not answer: {fault}; check DEPOTGRID_API_URL and that the read API is up") from fault
    try:
        body: Any = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise CommandFault(f"{api}{path} answers {answer.status_code} and no JSON object; is it the read API?")
    document = cast("dict[str, Any]", body)
    if not answer.is_success:
        errors: list[dict[str, Any]] = document.get("errors") or []
        details = [f"{error.get('pointer')}: {error.get('detail')}" for error in errors] or [str(document.get("detail"))]
        raise CommandFault(f"{document.get('code')}: {'; '.join(details)}")
    return document
