"""Log lines: one JSON object each, ids and counts only; no content, no keys, no addresses."""

import logging
import sys
from typing import TextIO

import msgspec
import structlog


def trace_of(error: BaseException | None) -> BaseException | None:
    """Return an error for its trace, but not one whose text may quote what was sent."""
    return None if isinstance(error, ValueError | msgspec.MsgspecError) else error


def configure_logs(stream: TextIO | None = None) -> None:
    """Write log lines to `stream` (standard error). Libraries that would quote requests are silent."""
    for name in ("aiohttp", "aiohttp.access", "aiohttp.server", "aiohttp.web"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
