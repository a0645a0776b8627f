"""One handler for all log lines (ours, uvicorn's, vLLM's), in text or JSON, with the request's id.

User text is never logged. Our own messages contain none; an exception's message may quote a
request, so while a request is handled, only the exception's frames and types are logged.
"""

import logging
import os
import traceback
from contextvars import ContextVar
from pathlib import Path
from textwrap import indent

from pythonjsonlogger.json import JsonFormatter

from app.settings import Settings

CURRENT_REQUEST: ContextVar[str] = ContextVar("request_id", default="")
FORMAT = "FRONTPAGE_LOG_FORMAT"
# vLLM reads these in this process and in its engine's, which is a fresh interpreter.
VLLM_CONFIG = Path(__file__).with_name("vllm_logging.json")
VLLM_LEVEL = os.environ.get("VLLM_LOGGING_LEVEL", "ERROR")


def configure(settings: Settings) -> None:
    """Set up logging. Called once per process, before vLLM is imported."""
    os.environ[FORMAT] = settings.log_format
    if os.environ.get("VLLM_CONFIGURE_LOGGING", "1") == "1":
        os.environ.setdefault("VLLM_LOGGING_CONFIG_PATH", str(VLLM_CONFIG))
    logging.getLogger().addHandler(console())
    logging.captureWarnings(True)
    logging.getLogger("frontpage").setLevel(settings.log_level.upper())


def console() -> logging.Handler:
    """A handler that writes to stderr. vLLM's engine process creates its own with this function, so
    the format is passed in an environment variable."""
    handler = logging.StreamHandler()
    handler.addFilter(complete)
    handler.setFormatter(json_lines() if os.environ.get(FORMAT) == "json" else Text())
    return handler


class Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        line, request_id = super().formatMessage(record), getattr(record, "request_id", "")
        return f"{line} id={request_id}" if request_id else line


def json_lines() -> logging.Formatter:
    names = {
        "levelname": "level",
        "name": "logger",
        "exc_info": "exception",
        "vllm_process_name": "process",
    }
    fields = ("levelname", "name", "message")
    return JsonFormatter(fields, rename_fields=names, timestamp="time")


def complete(record: logging.LogRecord) -> bool:
    """A filter that adds the request's id and removes what may quote a request; False drops the
    record."""
    request_id = CURRENT_REQUEST.get()
    if request_id:
        record.request_id = request_id
    elif record.name == "asyncio":  # later lines show a lost task's error, which may quote one
        record.msg, record.args = record.getMessage().split("\n")[0], ()
    else:
        return True
    if record.exc_info and record.exc_info[1]:
        record.exc_text, record.exc_info = outline(record.exc_info[1]), None
    return record.name != "py.warnings"


def outline(error: BaseException) -> str:
    """A traceback without messages: only the frames and types of an exception and its causes."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = f"{outline(cause)}\n\nwhich led to:\n\n" if cause else ""
    frames = "".join(traceback.format_tb(error.__traceback__))
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    inside = "".join("\n" + indent(outline(part), "  | ") for part in parts)
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return f"{before}Traceback (most recent call last):\n{frames}{name}{inside}"
