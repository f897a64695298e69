"""Around every request: how long it took and what came of it, for `/metrics`; and a way to end a connection that is stuck.

A streaming answer to a client that does not read is stuck in sending and can not be ended from within. The server tells an
application that the client is gone by what it receives; so `hang_up_on` makes that very message come when an event is set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SCOPE_KEY = "depotgrid.hang_up"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class HttpMetrics:
    """What an API counts. Whoever asks may name any path and any method, each of which would be a series of its own for ever.

    So a request to no route of ours has the route and method `none`, and one by an unheard-of method the method `none`.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "depotgrid_http_requests",
            "Requests answered, by method, path template and status",
            ["method", "route", "status"],
            registry=registry,
        )
        self._duration = Histogram(
            "depotgrid_http_request_duration_seconds",
            "From the request to the end of its answer; streams are left out",
            ["route"],
            buckets=_LATENCY_S,
            registry=registry,
        )

    def count(self, method: str, route: str | None, status: int, duration_s: float | None) -> None:
        """A request is answered; `route` is its path template, and `duration_s` None for a stream."""
        told = method if route is not None and method in _METHODS else "none"
        self._requests.labels(told, route or "none", str(status)).inc()
        if duration_s is not None:
            self._duration.labels(route or "none").observe(duration_s)


class StreamMetrics:
    """What an API with streams counts besides."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._clients = Gauge("depotgrid_stream_clients", "Connected stream clients", registry=registry)

    def watch(self, clients: Callable[[], float]) -> None:
        """Read the number of stream clients whenever metrics are asked for."""
        self._clients.set_function(clients)


class RequestWatch:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        streaming = False
        hang_ups: list[asyncio.Event] = []
        scope[_SCOPE_KEY] = hang_ups

        async def receive_or_hang_up() -> Message:
            if not hang_ups:
                return await receive()
            return await _first_of(receive, hang_ups[0])

        async def send_and_note(message: Message) -> None:
            nonlocal status, streaming
            if message["type"] == "http.response.start":
                status = message["status"]
                streaming = any(value.startswith(b"text/event-stream") for _, value in message["headers"])
            await send(message)

        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            await self._app(scope, receive_or_hang_up, send_and_note)
        finally:
            route = getattr(scope.get("route"), "path", None) or None
            self._metrics.count(scope["method"], route, status, None if streaming else clock() - began)


def hang_up_on(scope: MutableMapping[str, Any], event: asyncio.Event) -> None:
    """Treat this request's client as gone once the event is set."""
    scope[_SCOPE_KEY].append(event)


async def _first_of(receive: Receive, hang_up: asyncio.Event) -> Message:
    receiving = asyncio.ensure_future(receive())
    hanging_up = asyncio.ensure_future(hang_up.wait())
    try:
        await asyncio.wait({receiving, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
        return receiving.result() if receiving.done() else {"type": "http.disconnect"}
    finally:
        receiving.cancel()
        hanging_up.cancel()
