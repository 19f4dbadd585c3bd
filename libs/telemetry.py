"""Structured logs: one JSON object a line (or readable text on a terminal), every value redacted before it leaves."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

from libs.redaction import redact_value

_LARGEST_INTEGER = 2**63


def _redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    redacted: MutableMapping[str, Any] = redact_value(event)
    return redacted


def _render_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    try:
        return orjson.dumps(event).decode()
    except TypeError:  # JSON has no lone surrogates, and orjson no integers of more than 64 bits; a line is never lost
        return orjson.dumps({name: ascii(value) for name, value in event.items()}).decode()


def configure_logging(service: str, *, level: str, log_format: str) -> None:
    """Sends structlog and the standard library's logging to stderr in one form.

    `level` is a name of the `logging` module in any case; `log_format` is `json` or `console`.
    """
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Plain tracebacks: one with local variables may show secrets of no known form.
        structlog.processors.format_exc_info,
    ]
    render: Any = _render_json if log_format == "json" else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*processors, _redact, render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*processors, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _redact, render],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)
