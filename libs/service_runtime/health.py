"""Is the process alive, could it work, what has it counted: `/livez`, `/readyz`, `/metrics`; and serving any app in a running loop.

`/livez` answers as long as the event loop turns. `/readyz` is 200 when the process gives no reason why it could not work, else
503 with the reasons; a check that hangs or fails is a reason itself. A standby that could take over is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

Readiness = Callable[[], Awaitable[Sequence[str]]]
"""Gives the reasons why the process could not work, each a short sentence; none when it could."""

_CHECK_S = 2.0
_LAST_ANSWERS_S = 2


class ListenError(OSError):
    """The address cannot be listened on; the text says which, why, and what to change."""


def health_routes(registry: CollectorRegistry, readiness: Readiness) -> list[Route]:
    """The three routes, for an app that has others too."""

    async def livez(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_request: Request) -> Response:
        reasons = await _reasons(readiness)
        if reasons:
            return JSONResponse({"status": "not ready", "reasons": reasons}, status_code=503)
        return JSONResponse({"status": "ready", "reasons": []})

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]


def health_app(registry: CollectorRegistry, readiness: Readiness) -> Starlette:
    """An app of the three routes, for a process that serves nothing else."""
    return Starlette(routes=health_routes(registry, readiness))


@contextlib.asynccontextmanager
async def serve(app: ASGIApp, host: str, port: int) -> AsyncGenerator[int]:
    """Serve the app in this event loop while the context lasts; gives the port, which is chosen when `port` is 0.

    Signals stay with the program. At the end open answers get 2 s to finish, and the
    application one more. Raises ListenError when the address cannot be had.
    """
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    except OSError as fault:
        why = os.strerror(fault.errno) if fault.errno is not None and fault.errno > 0 else str(fault)
        raise ListenError(f"cannot listen on {host}:{port}: {why}; change DEPOTGRID_HTTP_PORT or DEPOTGRID_HTTP_HOST") from fault
    configuration = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=_LAST_ANSWERS_S, ws="none"
    )
    server = _Server(configuration)
    with listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]), name="http")
        try:
            while not server.started:
                if serving.done():
                    serving.result()
                    raise ListenError(f"the application on {host}:{port} did not start; its log has the cause")
                await asyncio.sleep(0.005)
            yield int(listening.getsockname()[1])
        finally:
            server.should_exit = True
            done, _ = await asyncio.wait({serving}, timeout=_LAST_ANSWERS_S + 1)
            if not done:
                serving.cancel()
    if serving.done() and not serving.cancelled():
        serving.result()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the program, which has more to stop than this server."""
        yield


async def _reasons(readiness: Readiness) -> list[str]:
    try:
        async with asyncio.timeout(_CHECK_S):
            return list(await readiness())
    except TimeoutError:
        return [f"the readiness check took longer than {_CHECK_S:g} s"]
    except Exception as fault:  # a broken check must read as not ready, not as a broken endpoint
        return [f"the readiness check failed: {type(fault).__name__}"]
