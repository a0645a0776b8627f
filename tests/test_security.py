"""Keys, scopes, rate limits, CORS, sizes: on the real application with the fake engine."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.engine.fake import FakeEngine
from app.main import create_app
from app.security import Security, listening_host, new_key
from app.settings import ApiKey, Limits, Settings
from tests.models import ROOT, SMOLLM2

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# Every first part of a path that the service has, and who may call it. A new one must be added.
SCOPES = {
    **dict.fromkeys(("health", "ready"), None),
    **dict.fromkeys(("", "page"), None),  # the try-it page and its files
    **dict.fromkeys(("predict", "rank", "feedback", "v1", "metrics"), "predict"),
    **dict.fromkeys(("docs", "redoc", "openapi.json", "static-offline-docs"), "predict"),
    **dict.fromkeys(("adapters", "aliases", "experiments"), "admin"),
}
SECRETS = {"predict": "fp-reader", "admin": "fp-boss", "slow": "fp-slow", "twin": "fp-twin"}


def key(name: str, scope: str, **fields: Any) -> ApiKey:
    digest = hashlib.sha256(SECRETS[name].encode()).hexdigest()
    return ApiKey.model_validate({"name": name, "sha256": digest, "scopes": [scope], **fields})


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {SECRETS[name]}"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        model=SMOLLM2,
        state=tmp_path / "state",
        api_keys=(
            key("predict", "predict"),
            key("admin", "admin"),
            key("slow", "predict", requests_per_minute=3),
            key("twin", "predict", requests_per_minute=3),
        ),
        cors_origins=("https://news.example",),
        limits=Limits(max_stories=2, max_title_chars=20, max_body_bytes=2000),
    )


def paths(app: FastAPI) -> list[str]:
    """Of every route, OpenAI's and the documentation's too; a parameter stands for itself."""
    assert all(isinstance(route, Route | Mount) for route in app.routes)
    return [re.sub(r"[{}]", "", route.path) for route in app.routes]  # type: ignore[attr-defined]


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("frontpage_refused_total", {"reason": reason}) or 0.0


async def test_every_route_is_guarded(app: FastAPI, client: httpx.AsyncClient) -> None:
    found = paths(app)
    assert {"/predict", "/rank", "/v1/chat/completions", "/metrics", "/docs", "/openapi.json"} <= {
        *found
    }
    for path in found:
        scope = SCOPES[path.split("/")[1]]
        for method in METHODS:
            bare = await client.request(method, path)
            reader = await client.request(method, path, headers=bearer("predict"))
            boss = await client.request(method, path, headers=bearer("admin"))
            where = f"{method} {path}"
            assert (bare.status_code == 401) == (scope is not None), where
            assert (reader.status_code == 403) == (scope == "admin"), where
            assert boss.status_code not in (401, 403), where
            assert reader.status_code != 401, where


async def test_exactly_health_ready_and_the_page_are_open(client: httpx.AsyncClient) -> None:
    for path in ("/health", "/ready"):
        assert (await client.get(path)).json() == {"status": "ok"}
    for path in ("/", "/page/style.css", "/page/experiments.html"):
        assert (await client.get(path)).status_code == 200, path
        assert (await client.post(path)).status_code == 405, path
    for path in ("/page/rank", "/page/%2e%2e/rank", "/page/..%2fadapters", "/page//adapters"):
        for method in ("GET", "POST"):
            assert (await client.request(method, path)).status_code in (404, 405), path
    for path in (
        *("/health/", "/healthz", "//health", "/ready/x", "/HEALTH", "/none", "/.env"),
        *("/page", "/Page/style.css", "//page/style.css", "/pages/style.css", "/index.html"),
    ):
        assert (await client.get(f"http://test{path}")).status_code == 401, path
    assert (await client.get("/none", headers=bearer("predict"))).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        *("/adapters", "/adapters/", "/adapters/x", "//adapters", "/Adapters", "/%61dapters"),
        *("/aliases/default", "///ALIASES/default", "/experiments", "/experiments/"),
    ],
)
async def test_nothing_that_looks_like_administration_is_open_to_readers(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(f"http://test{path}", headers=bearer("predict"))
    assert answer.status_code == 403
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("permission_error", "missing_scope")
    assert "'admin'" in error["message"]


@pytest.mark.parametrize("root_path", ["/api", "/predict", "/health", "/v1"])
async def test_a_root_path_opens_nothing(
    settings: Settings, engine: FakeEngine, root_path: str
) -> None:
    """A proxy's prefix, which the router takes off; the server or the application may set it."""
    app = create_app(settings, engine)

    async def status(path: str) -> int:
        transport = httpx.ASGITransport(app, root_path=root_path)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return (await client.delete(path, headers=bearer("predict"))).status_code

    assert await status(f"{root_path}/adapters/x") == 403
    assert await status("/adapters/x") == 403
    app.root_path = root_path
    assert await status(f"{root_path}/adapters/x") == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": SECRETS["predict"]},
        {"authorization": f"Basic {SECRETS['predict']}"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer fp-wrong"},
        {"authorization": f"Bearer {key('predict', 'predict').sha256}"},
        {"authorization": "Bearer \xe9".encode("latin-1")},
        {"x-api-key": SECRETS["predict"]},
        [("authorization", f"Bearer {SECRETS['admin']}"), ("authorization", "Bearer fp-other")],
    ],
)
async def test_a_wrong_key_is_401_in_openais_shape(client: httpx.AsyncClient, headers: Any) -> None:
    before = refused("authentication")
    answer = await client.post("/predict", json={"target": "t"}, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    assert error["request_id"] == answer.headers["x-request-id"]
    assert refused("authentication") == before + 1


async def test_a_right_key_answers(client: httpx.AsyncClient) -> None:
    for name in SECRETS:
        answer = await client.post("/predict", json={"target": "t"}, headers=bearer(name))
        assert answer.status_code == 200, name
    lower = {"authorization": f"bearer  {SECRETS['predict']} "}
    assert (await client.get("/metrics", headers=lower)).status_code == 200


async def test_a_scope_refused_is_counted(client: httpx.AsyncClient) -> None:
    before = refused("scope")
    await client.get("/adapters", headers=bearer("predict"))
    assert refused("scope") == before + 1


async def asgi(app: ASGIApp, scope: dict[str, Any]) -> list[Message]:
    """What the application sends when nothing may be read from the client."""
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"path": "/predict", "query_string": b"", "headers": [], **scope}, receive, send)
    return sent


async def test_no_body_is_read_before_the_key_is_known(app: FastAPI) -> None:
    for length in (b"9", b"999999999"):
        headers = [(b"content-length", length)]
        sent = await asgi(app, {"type": "http", "method": "POST", "headers": headers})
        assert sent[0]["status"] == 401


async def test_websockets_are_refused(app: FastAPI, settings: Settings) -> None:
    for keys in (settings.api_keys, ()):
        unguarded = create_app(settings.model_copy(update={"api_keys": keys}), FakeEngine())
        headers = [(b"authorization", f"Bearer {SECRETS['admin']}".encode())]
        sent = await asgi(unguarded, {"type": "websocket", "headers": headers})
        assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_the_state_names_the_key(app: FastAPI) -> None:
    seen: list[ApiKey | None] = []

    async def spy(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["state"]["key"])

    security = Security(spy, app.state.settings.api_keys)
    for path, name in (("/rank", "admin"), ("/v1/models", "predict"), ("/health", None)):
        headers = [(b"authorization", bearer(name)["authorization"].encode())] if name else []
        await asgi(security, {"type": "http", "path": path, "headers": headers, "state": {}})
    assert [found and found.name for found in seen] == ["admin", "predict", None]


async def test_a_rate_limit_is_of_one_key_and_of_work(client: httpx.AsyncClient) -> None:
    before = refused("rate_limit")
    work = {"json": {"target": "t"}, "headers": bearer("slow")}
    for _ in range(5):
        assert (await client.get("/metrics", headers=bearer("slow"))).status_code == 200
        assert (await client.get("/health", headers=bearer("slow"))).status_code == 200
    statuses = [(await client.post("/predict", **work)).status_code for _ in range(4)]  # type: ignore[arg-type]
    assert statuses == [200, 200, 200, 429]
    answer = await client.post("/rank", json={"candidates": ["t"]}, headers=bearer("slow"))
    assert answer.status_code == 429
    assert 50 <= int(answer.headers["retry-after"]) <= 61
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert refused("rate_limit") == before + 2
    assert (await client.get("/metrics", headers=bearer("slow"))).status_code == 200
    for name in ("predict", "twin"):
        other = await client.post("/predict", json={"target": "t"}, headers=bearer(name))
        assert other.status_code == 200


async def test_pages_of_a_known_origin_may_call(client: httpx.AsyncClient) -> None:
    ask = {
        "origin": "https://news.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    preflight = await client.options("/predict", headers=ask)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://news.example"
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in preflight.headers
    refusal = await client.post("/predict", headers={"origin": "https://news.example"})
    assert refusal.status_code == 401
    assert refusal.headers["access-control-allow-origin"] == "https://news.example"
    stranger = await client.options("/predict", headers=ask | {"origin": "https://evil.example"})
    assert stranger.status_code == 400
    assert "access-control-allow-origin" not in stranger.headers


async def test_cors_is_off_by_default(tmp_path: Path, engine: FakeEngine) -> None:
    app = create_app(Settings(model=SMOLLM2, state=tmp_path), engine)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        ask = {"origin": "https://news.example", "access-control-request-method": "POST"}
        for answer in (
            await client.options("/predict", headers=ask),
            await client.get("/health", headers=ask),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control")]


LONG = "x" * 21


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/predict", {"target": LONG}, "target.title"),
        ("/predict", {"target": "t", "history": ["a"] * 3}, "history"),
        ("/predict", {"target": "t", "liked": ["a", {"title": LONG}]}, "liked.1.title"),
        ("/predict", {"target": "t", "disliked": ["a"] * 3}, "disliked"),
        ("/rank", {"candidates": ["a", "b", "c", LONG]}, "candidates.3.title"),
        ("/rank", {"candidates": ["a"], "history": [LONG]}, "history.0.title"),
        ("/predict/batch", {"pairs": [{"target": "a"}, {"target": LONG}]}, "pairs.1.target.title"),
        (
            "/predict/batch",
            {"pairs": [{"target": "a"}] * 2 + [{"target": "a", "history": ["a"] * 3}]},
            "pairs.2.history",
        ),
        (
            "/predict/batch",
            {"pairs": [{"target": "a", "liked": ["a", LONG]}]},
            "pairs.0.liked.1.title",
        ),
    ],
)
async def test_sizes_are_limited(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], param: str
) -> None:
    answer = await client.post(path, json=body, headers=bearer("predict"))
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == param
    assert LONG not in answer.text


async def test_what_just_fits_is_answered(client: httpx.AsyncClient) -> None:
    body = {"target": "x" * 20, "history": ["x" * 20] * 2}
    answer = await client.post("/predict", json=body, headers=bearer("predict"))
    assert answer.status_code == 200


def test_without_keys_only_this_machine_may_connect(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    for host in ("0.0.0.0", "::", "127.0.0.1"):
        caplog.clear()
        open_to_all = settings.model_copy(update={"api_keys": (), "host": host})
        assert listening_host(open_to_all) == "127.0.0.1"
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert "listening on 127.0.0.1 only" in record.message
    caplog.clear()
    assert listening_host(settings.model_copy(update={"host": "0.0.0.0"})) == "0.0.0.0"
    assert not caplog.records


def test_a_new_key_fits_its_entry() -> None:
    secret, entry = new_key("me", "admin")
    assert secret.startswith("fp-")
    assert len(secret) > 40
    assert entry.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert new_key("me", "admin")[0] != secret


def test_the_command_prints_a_key_once_and_its_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "app.security", "news site", "--requests-per-minute", "60"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    secret, entry = first.rsplit(" ", 1)[1], second.split(": ", 1)[1]
    monkeypatch.setenv("FRONTPAGE_API_KEYS", f"[{entry}]")
    (found,) = Settings().api_keys
    assert found.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert found.requests_per_minute == 60
    assert json.loads(entry)["scopes"] == ["predict"]
