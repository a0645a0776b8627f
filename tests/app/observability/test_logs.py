"""Log lines: text or JSON, with the request's id, never with text of a user."""

import asyncio
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.engine.fake import FakeEngine
from app.main import create_app
from app.observability import logs
from app.settings import Settings
from tests.support.keys import SECRETS, bearer, key
from tests.support.models import ROOT
from tests.support.servers import started

METHODS = ("GET", "POST", "PUT", "DELETE")
MARKER = "zxqjkv"  # in no message, path or name of ours


class Log(io.StringIO):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form


@pytest.fixture(params=["text", "json"])
def log(
    request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Log]:
    """Logging as `python -m app` sets it, at level debug; all put back after the test."""
    for name in (logs.FORMAT, "VLLM_LOGGING_CONFIG_PATH"):
        monkeypatch.setenv(name, "")
    root, level = logging.getLogger(), logging.getLogger("frontpage").level
    stream = Log(request.param)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        form = {"log_format": request.param, "log_level": "debug"}
        logs.configure(settings.model_copy(update=form))
    (handler,) = [found for found in root.handlers if found.filters == [logs.complete]]
    yield stream
    logging.captureWarnings(False)
    logging.getLogger("frontpage").setLevel(level)
    root.removeHandler(handler)


async def send_all(app: FastAPI, client: httpx.AsyncClient) -> list[httpx.Response]:
    """The marker to every route, in bodies right and wrong, names, queries, headers and keys."""
    story = {"id": MARKER, "title": f"{MARKER} wins", "category": MARKER}
    bodies: list[dict[str, Any]] = [
        {"json": {"target": story, "history": [story], "liked": [MARKER]}},
        {"json": {"candidates": [story, MARKER], "disliked": [story]}},
        {"json": {"pairs": [{"target": story, "history": [MARKER]}]}},
        {"json": {"messages": [{"role": "user", "content": MARKER}], "prompt": MARKER}},
        {"json": {"target": 1, "candidates": MARKER, MARKER: MARKER, "model": MARKER}},
        {"json": {"name": MARKER, "path": f"/{MARKER}", "id": MARKER, "clicked": True}},
        {"json": {"target": f"{MARKER} " * 3000, "model": None}},
        {"json": MARKER},
        {"content": f'{{"target": "{MARKER}'.encode(), "headers": {"content-type": "text/plain"}},
        {"content": f"{MARKER}\xff".encode("latin-1")},
    ]
    answers = []
    for path in [*{getattr(route, "path", "/") for route in app.routes}, f"/{MARKER}"]:
        for body in bodies:
            more = {"x-note": MARKER, "authorization": f"Bearer {MARKER}", "cookie": MARKER}
            headers = more | body.get("headers", {})
            sent = {**body, "headers": headers, "params": {MARKER: MARKER}}
            answers += [await client.request(method, path, **sent) for method in METHODS]
    return answers


async def test_no_text_of_users_is_logged(
    app: FastAPI,
    client: httpx.AsyncClient,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    log: Log,
) -> None:
    answers = await send_all(app, client)

    async def explode(*_: object, **__: object) -> None:
        try:
            raise KeyError(f"{MARKER} of the engine")
        except KeyError as error:
            raise ExceptionGroup(MARKER, [RuntimeError(f"/secret/{MARKER}")]) from error

    monkeypatch.setattr(engine, "score", explode)
    failed = await client.post("/predict", json={"target": MARKER})
    logged = log.getvalue()
    assert {200, 404, 405, 422} <= {answer.status_code for answer in answers}
    assert "/predict" in logged
    assert MARKER not in logged
    assert failed.status_code == 500
    assert MARKER not in failed.text
    for inside in ("secret", "Traceback", "RuntimeError", ".py"):
        assert inside not in failed.text
    for outline in ("Traceback", "in explode", "builtins.KeyError", "builtins.RuntimeError"):
        assert outline in logged


async def test_a_key_is_logged_by_its_name_only(
    settings: Settings, engine: FakeEngine, log: Log
) -> None:
    keys = (key("admin", "admin"), key("slow", "predict", requests_per_minute=1))
    app = create_app(settings.model_copy(update={"api_keys": keys}), engine)
    async with started(app) as client:
        log.seek(log.truncate(0))
        for name in (*SECRETS, "slow"):
            await client.post("/predict", json={"target": "t"}, headers=bearer(name))
        await client.get("/health", headers=bearer("admin"))
    logged = log.getvalue()
    names = {"200": {"", "admin", "slow"}, "401": {""}, "429": {"slow"}}
    assert logged_keys(log) == names
    assert not [secret for secret in SECRETS.values() if secret in logged]


def logged_keys(log: Log) -> dict[str, set[str]]:
    """Status → names of keys in the access log's lines."""
    found: dict[str, set[str]] = {}
    for line in log.getvalue().splitlines():
        if log.form == "json" and "status" in (fields := json.loads(line)):
            found.setdefault(str(fields["status"]), set()).add(fields["key"])
        elif words := re.search(r" (\d{3}) [\d.]+ ms(?: key=(\w+))? id=", line):
            found.setdefault(words[1], set()).add(words[2] or "")
    return found


async def test_each_line_of_a_request_has_its_id(
    client: httpx.AsyncClient,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    log: Log,
) -> None:
    score = engine.score

    async def talkative(*arguments: Any) -> Any:
        logging.getLogger("frontpage").debug("before")
        await asyncio.sleep(0.01)
        logging.getLogger("uvicorn.error").warning("after")
        return await score(*arguments)

    monkeypatch.setattr(engine, "score", talkative)
    log.seek(log.truncate(0))
    names = [f"request-{number}" for number in range(5)]
    await asyncio.gather(
        *(
            client.post("/predict", json={"target": "t"}, headers={"x-request-id": name})
            for name in names
        )
    )
    logging.getLogger("frontpage").info("outside")
    lines = log.getvalue().splitlines()
    for name in names:
        own = [line for line in lines if name in line]
        assert len(own) == 3
        assert ["before" in own[0], "after" in own[1], "POST /predict 200" in own[2]] == [True] * 3
    outside = lines[-1]
    assert "outside" in outside
    assert "id" not in outside.replace("outside", "")
    if log.form == "json":
        access = json.loads(next(line for line in lines if "POST" in line and names[0] in line))
        assert access["level"] == "INFO"
        assert access["logger"] == "frontpage.access"
        assert access["request_id"] == names[0]
        assert (access["method"], access["route"], access["status"]) == ("POST", "/predict", 200)
        assert access["time"].endswith("+00:00")
        fields = set(json.loads(outside)) - {"process"}  # vLLM's, once it is loaded
        assert fields == {"level", "logger", "message", "time"}
    else:
        assert next(line for line in lines if "POST" in line).split()[1] == "INFO"


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_what_is_polled_does_not_fill_the_log(
    client: httpx.AsyncClient, engine: FakeEngine, log: Log, path: str
) -> None:
    """Only at the level debug, unless it fails."""
    access = logging.getLogger("frontpage.access")
    log.seek(log.truncate(0))
    (await client.get(path)).raise_for_status()
    assert f"GET {path} 200" in log.getvalue()
    log.seek(log.truncate(0))
    logging.getLogger("frontpage").setLevel("INFO")
    assert access.getEffectiveLevel() == logging.INFO
    await client.get(path)
    assert log.getvalue() == ""
    engine.dead = True
    await client.get(path)
    await client.get(f"{path}/none")
    lines = 1 if path == "/metrics" else 2  # which answers without an engine, too
    assert len(log.getvalue().splitlines()) == lines


async def test_an_error_outside_a_request_keeps_its_message(log: Log) -> None:
    try:
        raise OSError("no such disk")
    except OSError:
        logging.getLogger("frontpage").exception("start failed")
    text = log.getvalue()
    assert "no such disk" in text
    if log.form == "json":
        assert "no such disk" in json.loads(text)["exception"]


async def test_a_lost_tasks_error_is_not_shown(log: Log) -> None:
    try:
        raise RuntimeError(MARKER)
    except RuntimeError as error:
        context = {"message": "Task exception was never retrieved", "exception": error}
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lost.set_exception(RuntimeError(MARKER))
        asyncio.get_running_loop().call_exception_handler({**context, "future": lost})
        lost.exception()
    text = log.getvalue()
    assert "Task exception was never retrieved" in text
    assert "RuntimeError" in text
    assert MARKER not in text


VLLM = """
import logging
from app.observability import logs
from app.settings import Settings
logs.configure(Settings(log_format="json"))
import vllm.logger
vllm.logger.init_logger("vllm.engine").info("hidden")
vllm.logger.init_logger("vllm.engine").error("from vllm")
logging.getLogger("uvicorn.error").warning("from uvicorn")
import warnings
warnings.warn("from a library")
from vllm.engine.arg_utils import AsyncEngineArgs
from app.engine.arguments import engine_options
args = AsyncEngineArgs(**engine_options(Settings()))
assert args.enable_log_requests is False
from app.engine.openai import serving_arguments
arguments = serving_arguments(Settings())
assert not arguments.enable_log_requests and not arguments.enable_log_outputs
"""


def test_vllms_lines_have_our_form_and_it_logs_no_requests() -> None:
    """In a process of its own, as vLLM sets its logging when it is imported."""
    done = subprocess.run(
        [sys.executable, "-c", VLLM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    said = {line["message"].split("\n")[0].split(": ")[-1]: line["logger"] for line in lines}
    assert said["from vllm"] == "vllm.engine"
    assert said["from uvicorn"] == "uvicorn.error"
    assert said["from a library"] == "py.warnings"
    assert "hidden" not in done.stderr + done.stdout
