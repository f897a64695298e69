"""Health endpoints, and serving an app inside a running loop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence

import httpx2
import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from service_runtime import health
from service_runtime.health import ListenError, health_app, serve


async def _ready() -> Sequence[str]:
    return ()


async def _behind() -> Sequence[str]:
    return ("the oldest packet waits for 45 s",)


async def _failing() -> Sequence[str]:
    raise RuntimeError("postgresql://u:hunter2@h/d")


async def _hanging() -> Sequence[str]:
    await asyncio.Event().wait()
    return ()


@pytest.mark.parametrize(
    ("readiness", "status", "reasons"),
    [
        (_ready, 200, []),
        (_behind, 503, ["the oldest packet waits for 45 s"]),
        (_failing, 503, ["the readiness check failed: RuntimeError"]),
        (_hanging, 503, ["the readiness check took longer than 0.05 s"]),
    ],
)
async def test_readiness_gives_its_reasons(
    monkeypatch: pytest.MonkeyPatch, readiness: Callable[[], Awaitable[Sequence[str]]], status: int, reasons: list[str]
) -> None:
    monkeypatch.setattr(health, "_CHECK_S", 0.05)
    transport = httpx2.ASGITransport(app=health_app(CollectorRegistry(), readiness))
    async with httpx2.AsyncClient(transport=transport, base_url="http://depotgrid") as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["reasons"]) == (status, reasons)
        assert (await client.get("/livez")).status_code == 200


async def test_metrics_are_served_while_the_context_lasts_and_the_port_is_free_after_it() -> None:
    registry = CollectorRegistry()
    Counter("depotgrid_packets", "Packets", registry=registry).inc(3)
    async with serve(health_app(registry, _ready), "127.0.0.1", 0) as port, httpx2.AsyncClient(timeout=60) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/metrics")
        assert "depotgrid_packets_total 3.0" in answer.text
        assert answer.headers["content-type"].startswith("text/plain")
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


async def test_signals_stay_with_the_program() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with serve(health_app(CollectorRegistry(), _ready), "127.0.0.1", 0):
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


async def test_a_taken_port_is_named_with_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ListenError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use; change DEPOTGRID_HTTP_PORT"
        ):
            async with serve(health_app(CollectorRegistry(), _ready), "127.0.0.1", port):
                pytest.fail("the port was taken")


async def test_an_open_answer_is_finished_before_the_server_ends() -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(_request: Request) -> PlainTextResponse:
        asked.set()
        await may_answer.wait()
        return PlainTextResponse("done")

    async with httpx2.AsyncClient(timeout=60) as client:
        async with serve(Starlette(routes=[Route("/", slow)]), "127.0.0.1", 0) as port:
            answer = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/"))
            await asked.wait()
            asyncio.get_running_loop().call_later(0.05, may_answer.set)
        assert (await answer).text == "done"


async def test_a_failure_inside_the_context_comes_out_and_ends_the_server() -> None:
    ports: list[int] = []

    async def fail_inside() -> None:
        async with serve(health_app(CollectorRegistry(), _ready), "127.0.0.1", 0) as port:
            ports.append(port)
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        await fail_inside()
    async with httpx2.AsyncClient(timeout=60) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"http://127.0.0.1:{ports[0]}/livez")
