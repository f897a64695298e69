"""Logs: one format, telemetry names, no secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from service_runtime.logs import configure_logging


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction] - a fixture
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def _started(**options: Any) -> io.StringIO:
    out = io.StringIO()
    configure_logging("ingest", stream=out, **options)
    return out


def test_our_lines_and_a_librarys_have_the_same_shape() -> None:
    out = _started()
    structlog.get_logger().warning("batch retried", packets=12, trace_id="ab" * 16)
    logging.getLogger("some.library").error("it %s", "broke")
    ours, theirs = _lines(out)
    assert {key: ours[key] for key in ("severity_text", "severity_number", "body", "service.name", "packets", "trace_id")} == {
        "severity_text": "WARNING",
        "severity_number": 13,
        "body": "batch retried",
        "service.name": "ingest",
        "packets": 12,
        "trace_id": "ab" * 16,
    }
    assert ours["timestamp"].endswith("Z")
    assert (theirs["severity_text"], theirs["body"], theirs["service.name"]) == ("ERROR", "it broke", "ingest")


def test_an_exception_is_spelled_out_in_telemetry_names() -> None:
    out = _started()
    try:
        raise ValueError("at postgresql://u:hunter2@h/d")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = _lines(out)
    assert line["exception.type"] == "ValueError"
    assert line["exception.message"] == "at postgresql://u:***@h/d"
    assert "test_logs.py" in line["exception.stacktrace"]
    assert "hunter2" not in out.getvalue()


@pytest.mark.parametrize("style", ["json", "pretty"])
def test_secrets_never_leave(style: str) -> None:
    out = _started(style=style)
    structlog.get_logger().info(
        "connecting to mqtt://gw:hunter2@host:1883",
        password="hunter2",
        headers={"Authorization": "Bearer hunter2", "x": "bearer hunter2"},
        tried=["postgresql://u:hunter2@h/d"],
    )
    logging.getLogger("lib").warning("sent %s", "Bearer hunter2.abc")
    assert out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_lines_below_the_level_and_chatter_of_libraries_are_left_out() -> None:
    out = _started(level="INFO")
    structlog.get_logger().debug("inside")
    logging.getLogger("gmqtt.client").warning("chatter")
    logging.getLogger("uvicorn.access").info("GET /")
    logging.getLogger("faststream").info("started")
    structlog.get_logger().info("told")
    assert [line["body"] for line in _lines(out)] == ["told"]


def test_off_a_terminal_lines_are_json_unless_asked_otherwise() -> None:
    out = _started(style="auto")
    structlog.get_logger().info("told")
    assert _lines(out)[0]["body"] == "told"
    out = _started(style="pretty")
    structlog.get_logger().info("told")
    assert "{" not in out.getvalue()


def test_configuring_again_does_not_double_lines() -> None:
    _started()
    out = _started()
    structlog.get_logger().info("once")
    assert len(_lines(out)) == 1
