"""Evidence over HTTP: which runs there are, what is known of one, and its packets in order, a page at a time.

| path | what it gives |
|---|---|
| `GET /api/sim/run` | the runs, the oldest first |
| `GET /api/sim/run/{run_id}` | one run: its `run.json`, how it ended, how many packets were confirmed, its expectations |
| `GET /api/sim/run/{run_id}/packet` | its packets with topic, step and state, each with `confirmed`; `limit` 1 to 500, `cursor` |

It only reads the runs' folder, so it also serves a run that is going on, and one that was killed.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from depot_sim.evidence import CONFIRMED, EXPECTATIONS, PACKETS, Run, find_run, list_runs
from service_runtime.access import Access
from service_runtime.problem import Problem, install_problem_answers


class PacketQuery(BaseModel):
    """Which packets: `cursor` is the number of the first, as `next` gave it."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=500)
    cursor: int = Field(0, ge=0)


def runs_app(runs: Path, access: Access) -> FastAPI:
    """The application over a folder of runs; `access` decides who may look: whoever may read."""
    app = FastAPI(title="Depotgrid simulator", openapi_url=None, docs_url=None, redoc_url=None)
    install_problem_answers(app)
    may_read = [Depends(access.require("viewer"))]

    @app.get("/api/sim/run", dependencies=may_read)
    def list_them() -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction] - a route
        return {"items": [_about(run) for run in list_runs(runs)], "next": None}

    @app.get("/api/sim/run/{run_id}", dependencies=may_read)
    def one(run_id: str) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction] - a route
        run = _found(runs, run_id)
        return {**_about(run), "expectations": list(run.lines(EXPECTATIONS))}

    @app.get("/api/sim/run/{run_id}/packet", dependencies=may_read)
    def packets(request: Request, run_id: str, wanted: Annotated[PacketQuery, Query()]) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction] - a route
        del request
        run = _found(runs, run_id)
        confirmed = {entry["n"] for entry in run.lines(CONFIRMED)}
        page = list(islice(run.lines(PACKETS), wanted.cursor, wanted.cursor + wanted.limit + 1))
        items = [{**entry, "confirmed": entry["n"] in confirmed} for entry in page[: wanted.limit]]
        return {"items": items, "next": str(wanted.cursor + wanted.limit) if len(page) > wanted.limit else None}

    @app.get("/readyz")
    def readyz() -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction] - a route
        return {"status": "ready", "reasons": []}

    return app


def _found(runs: Path, run_id: str) -> Run:
    run = find_run(runs, run_id)
    if run is None:
        raise Problem(404, "RUN_NOT_FOUND", f"there is no run {run_id}")
    return run


def _about(run: Run) -> Mapping[str, Any]:
    return {**run.about, "status": run.status, "confirmed": sum(1 for _ in run.lines(CONFIRMED))}
