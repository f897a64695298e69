"""What an API counts of its requests, whoever asks for whatever."""

from __future__ import annotations

import httpx2
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.responses import StreamingResponse

from service_runtime.request_watch import HttpMetrics, RequestWatch


async def test_requests_are_counted_by_method_template_and_status_and_streams_have_no_duration() -> None:
    registry = CollectorRegistry()
    app = FastAPI()
    app.add_middleware(RequestWatch, metrics=HttpMetrics(registry))

    def thing(thing_id: str) -> str:
        return thing_id

    def stream() -> StreamingResponse:
        return StreamingResponse(iter([b": nothing\n\n"]), media_type="text/event-stream")

    app.get("/thing/{thing_id}")(thing)
    app.get("/stream")(stream)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://api") as http:
        asked = (
            ("GET", "/thing/1"),
            ("GET", "/thing/2"),
            ("GET", "/stream"),
            ("BREW", "/coffee"),
            ("PUT", "/stream"),
            ("BREW", "/stream"),
        )
        for method, path in asked:
            await http.request(method, path)
    counted = {
        (sample.name.removeprefix("depotgrid_http_"), *sample.labels.values()): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name.endswith(("_total", "_count"))
    }
    assert counted == {
        ("requests_total", "GET", "/thing/{thing_id}", "200"): 2,
        ("requests_total", "GET", "/stream", "200"): 1,
        ("requests_total", "none", "none", "404"): 1,
        ("requests_total", "PUT", "/stream", "405"): 1,
        ("requests_total", "none", "/stream", "405"): 1,
        ("request_duration_seconds_count", "/thing/{thing_id}"): 2,
        ("request_duration_seconds_count", "/stream"): 2,
        ("request_duration_seconds_count", "none"): 1,
    }
