"""Structured logs: one JSON object a line (or readable text on a terminal), every line redacted before it leaves."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

from libs.redaction import redact


def _render_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    return redact(orjson.dumps(event, default=repr).decode())


class _RedactedConsole(structlog.dev.ConsoleRenderer):
    def __call__(self, logger: Any, name: str, event_dict: MutableMapping[str, Any]) -> str:
        return redact(str(super().__call__(logger, name, event_dict)))


def configure_logging(service: str, *, level: str, log_format: str) -> None:
    """Sends structlog and the standard library's logging to stderr in one form.

    `level` is a name of the `logging` module in any case; `log_format` is `json` or `console`.
    """
    render: Any = (
        _render_json
        if log_format == "json"
        else _RedactedConsole(
            colors=sys.stderr.isatty(),
            # The default shows local variables where it can, and those may hold secrets of no known form.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "json":
        shared.append(structlog.processors.format_exc_info)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)
