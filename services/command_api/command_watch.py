"""Around every command: how long it took and what came of it, for `/metrics`."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LATENCY_S = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class CommandMetrics:
    """What a command API counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.commands = Counter(
            "depotgrid_http_requests",
            "Requests answered, by method, path template and status",
            ["method", "route", "status"],
            registry=registry,
        )
        self.duration = Histogram(
            "depotgrid_http_request_duration_seconds",
            "From the request to the end of its answer",
            ["route"],
            buckets=_LATENCY_S,
            registry=registry,
        )


class CommandWatch:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: CommandMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            await self._app(scope, receive, send_and_note)
        finally:
            route = getattr(scope.get("route"), "path", None) or "none"
            # Whoever asks may name any method; only those of a route are worth a line.
            method = scope["method"] if route != "none" else "none"
            self._metrics.commands.labels(method, route, str(status)).inc()
            self._metrics.duration.labels(route).observe(clock() - began)
