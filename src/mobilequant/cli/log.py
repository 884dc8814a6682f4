"""Messages of the library on standard error, as lines for people or for programs."""

from __future__ import annotations

import json
import logging
import sys

from mobilequant.cli import output
from mobilequant.cli.option import LogFormat


def configure(log_format: LogFormat) -> None:
    """Send the library's messages to standard error: warnings as text, or everything from INFO on as JSON lines."""
    logger = logging.getLogger("mobilequant")
    handler: logging.Handler = _ErrorStream()
    handler.setFormatter(
        _JsonLines() if log_format is LogFormat.JSON else logging.Formatter("%(levelname)s %(message)s")
    )
    logger.handlers = [handler]
    logger.setLevel(logging.INFO if log_format is LogFormat.JSON else logging.WARNING)
    logger.propagate = False


def only_errors() -> None:
    """Leave warnings to another process, which has the same ones."""
    logging.getLogger("mobilequant").setLevel(logging.ERROR)


def write_event(event: str, **fields: object) -> None:
    """One JSON object on a line of its own on standard error."""
    sys.stderr.write(json.dumps({"event": event, **fields}, ensure_ascii=False) + "\n")
    sys.stderr.flush()


class _ErrorStream(logging.Handler):
    """Writes to whatever standard error is now, and so stays right when it is redirected."""

    def emit(self, record: logging.LogRecord) -> None:
        output.tell(self.format(record))


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {"event": "log", "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        return json.dumps(fields, ensure_ascii=False)
