"""One format for everything that a process logs, our own lines and those of the libraries alike.

Each line is one JSON object (or coloured text on a terminal) with the names of OpenTelemetry's log model: `timestamp`,
`severity_text`, `severity_number`, `body`, `service.name`, `trace_id`, and whatever the caller adds. Exceptions become
`exception.type`, `exception.message` and `exception.stacktrace`. Before a line leaves, passwords inside URLs are masked in
every text of it, as are bearer tokens, and values under names that speak of a secret are dropped: whoever logs need not think
of it.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO, cast

import structlog

from service_runtime.settings import without_password

_SEVERITY_NUMBERS = {"DEBUG": 5, "INFO": 9, "WARNING": 13, "ERROR": 17, "CRITICAL": 21}
# What these say below the given level is about their insides; what matters of it, we log or count ourselves.
_LIBRARY_LEVELS = {
    "aiokafka": logging.ERROR,
    "alembic": logging.WARNING,
    "asyncio": logging.WARNING,
    "faststream": logging.WARNING,
    "gmqtt": logging.ERROR,
    "httpx2": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "uvicorn": logging.WARNING,
    "uvicorn.access": logging.CRITICAL,
}
_SECRET_NAME = re.compile(r"passw|secret|token|authori[sz]ation|cookie|api_?key", re.IGNORECASE)
_BEARER = re.compile(r"\bBearer\s+[\w.~+/=-]+", re.IGNORECASE)
_Line = MutableMapping[str, Any]


def configure_logging(
    service: str, *, level: str = "INFO", style: Literal["auto", "json", "pretty"] = "auto", stream: TextIO | None = None
) -> None:
    """Send all logs of this process to `stream` (standard error) as lines of the service; later calls replace earlier ones."""
    out = stream if stream is not None else sys.stderr
    pretty = style == "pretty" or (style == "auto" and out.isatty())

    def name_the_service(_logger: object, _method: str, line: _Line) -> _Line:
        line["service.name"] = service
        return line

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.ExtraAdder(),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.stdlib.add_log_level,
    ]
    finishing: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _spell_out_exception,
        name_the_service,
        _drop_secrets,
    ]
    if pretty:
        finishing.append(structlog.dev.ConsoleRenderer(colors=out.isatty()))
    else:
        finishing += [_in_telemetry_names, structlog.processors.JSONRenderer(default=str, ensure_ascii=False)]
    handler = logging.StreamHandler(out)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=finishing, foreign_pre_chain=shared))
    root = logging.getLogger()
    for former in list(root.handlers):
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level)
    for name, least in _LIBRARY_LEVELS.items():
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(least, logging.getLevelNamesMapping()[level]))
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _spell_out_exception(_logger: object, _method: str, line: _Line) -> _Line:
    raised: object = line.pop("exc_info", None)
    if raised is True:
        raised = sys.exc_info()
    fault: object = cast("tuple[Any, ...]", raised)[1] if isinstance(raised, tuple) else raised
    if isinstance(fault, BaseException):
        line["exception.type"] = type(fault).__qualname__
        line["exception.message"] = str(fault)
        line["exception.stacktrace"] = "".join(traceback.format_exception(fault))
    return line


def _drop_secrets(_logger: object, _method: str, line: _Line) -> _Line:
    return {name: "***" if _SECRET_NAME.search(name) else _masked(value) for name, value in line.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return _BEARER.sub("Bearer ***", without_password(value))
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value)
        return {name: "***" if _SECRET_NAME.search(str(name)) else _masked(member) for name, member in members.items()}
    if isinstance(value, list | tuple):
        return [_masked(item) for item in cast("list[Any]", value)]
    return value


def _in_telemetry_names(_logger: object, _method: str, line: _Line) -> _Line:
    severity = str(line.pop("level", "info")).upper()
    head = {
        "timestamp": line.pop("timestamp", None),
        "severity_text": severity,
        "severity_number": _SEVERITY_NUMBERS.get(severity, 0),
        "body": line.pop("event", ""),
    }
    return {**head, **line}
