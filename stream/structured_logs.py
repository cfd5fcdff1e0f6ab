"""Logs as JSON lines on standard error, ours and the libraries' alike, each with `service: sluicegate`."""

import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.types import EventDict, Processor

Level = Literal["debug", "info", "warning", "error"]

# Faust and aiokafka narrate every rebalance; their warnings matter, their news does not.
_QUIET = ("faust", "mode", "aiokafka", "kafka")


def configure_logs(level: Level = "info", stream: TextIO | None = None) -> None:
    """Send everything through one JSON formatter, replacing what was configured before.

    Args:
        level: least severe level written.
        stream: where to; default standard error.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _service,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            # The standard encoder escapes control characters: a log line stays a line.
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _service(_logger: object, _method: str, event: EventDict) -> EventDict:
    event["service"] = "sluicegate"
    return event
