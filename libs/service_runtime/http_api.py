"""What every HTTP API of ours has around its routes: who may ask, problem answers, probes, counters; no pages of its own.

A resource's path is answered by one API for reading and by another for changing, at one address. So each of them knows the methods
that the other describes, and a path that is there for those alone is 405 and not 404.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from service_runtime.health import Readiness, health_routes
from service_runtime.problem import Problem, answer, install_problem_answers, methods_described, problem_responses
from service_runtime.request_watch import HttpMetrics, RequestWatch

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def http_api(
    title: str,
    version: str,
    summary: str,
    routers: Iterable[APIRouter],
    *,
    guards: Sequence[Any],
    open_routes: Sequence[Route] = (),
    other_api: bytes,
    readiness: Readiness,
    registry: CollectorRegistry,
    lifespan: Lifespan | None = None,
) -> FastAPI:
    """An application of these routers.

    `guards` are FastAPI dependencies of every route, which may refuse; `open_routes` are open to everyone, as the probes are.
    `other_api` is the OpenAPI document of the API that answers the other methods of the same paths.
    """
    app = FastAPI(title=title, version=version, summary=summary, lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    for router in routers:
        app.include_router(router, dependencies=guards, responses=problem_responses(401, 403, 500, 503))
    app.router.routes.extend(open_routes)
    app.router.routes.extend(health_routes(registry, readiness))
    install_problem_answers(app, methods_described(other_api))
    app.add_middleware(RequestWatch, metrics=HttpMetrics(registry))
    return app


def answer_without_database(app: FastAPI, faults: Collection[type[Exception]], detail: str) -> None:
    """Let these faults be 503 `DATABASE_UNAVAILABLE`, with a detail for the caller and when to ask again."""

    def gone(request: Request, _: Exception) -> JSONResponse:
        return answer(Problem(503, "DATABASE_UNAVAILABLE", detail, headers={"Retry-After": "1"}), request.url.path)

    for fault in faults:
        app.add_exception_handler(fault, gone)
