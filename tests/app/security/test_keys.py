"""Keys and scopes: on the real application with the fake engine."""

import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.engine.fake import FakeEngine
from app.main import create_app
from app.security.middleware import Security
from app.settings import ApiKey, Settings
from tests.support.keys import SECRETS, bearer, guarded, key, refused
from tests.support.servers import client_of, started

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# Every first part of a path that the service has, and who may call it. A new one must be added.
SCOPES = {
    **dict.fromkeys(("health", "ready"), None),
    **dict.fromkeys(("", "page"), None),  # the try-it page and its files
    **dict.fromkeys(("predict", "rank", "recommend", "feedback", "v1", "metrics"), "predict"),
    **dict.fromkeys(("docs", "redoc", "openapi.json", "static-offline-docs"), "predict"),
    **dict.fromkeys(("stories", "events"), "events"),
    **dict.fromkeys(("adapters", "aliases", "experiments", "readers"), "admin"),
}


settings = pytest.fixture(guarded)


def paths(app: FastAPI) -> list[str]:
    """Of every route, OpenAI's and the documentation's too; a parameter stands for itself."""
    assert all(isinstance(route, Route | Mount) for route in app.routes)
    return [re.sub(r"[{}]", "", route.path) for route in app.routes]  # type: ignore[attr-defined]


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
            site = await client.request(method, path, headers=bearer("events"))
            boss = await client.request(method, path, headers=bearer("admin"))
            where = f"{method} {path}"
            assert (bare.status_code == 401) == (scope is not None), where
            assert (reader.status_code == 403) == (scope in ("events", "admin")), where
            assert (site.status_code == 403) == (scope in ("predict", "admin")), where
            assert boss.status_code not in (401, 403), where
            assert reader.status_code != 401, where


@pytest.mark.parametrize("path", ["/health", "/page/style.css", "/adapters", "/v1/models"])
async def test_without_keys_only_this_machines_own_names_are_answered(
    settings: Settings, engine: FakeEngine, path: str
) -> None:
    """DNS rebinding: a page's own name points at 127.0.0.1, so a browser lets it call us."""
    app, before = create_app(settings.model_copy(update={"api_keys": ()}), engine), refused("host")
    async with started(app) as client:
        for own in ("localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:8000", "[::1]:8000"):
            answer = await client.get(path, headers={"host": own})
            assert answer.status_code == 200, own
        for host in (
            *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io"),
            *(
                "localhost@evil.example",
                "evil.example#localhost",
                "[::1",
                "user:p@ss@evil",
                "0.0.0.0",
            ),
        ):
            answer = await client.get(path, headers={"host": host})
            assert answer.status_code == 403, host
            assert answer.json()["error"]["code"] == "foreign_host"
            assert "FRONTPAGE_API_KEYS" in answer.json()["error"]["message"]
    assert refused("host") == before + 9


async def test_with_keys_any_name_is_answered(client: httpx.AsyncClient) -> None:
    for path, headers in (("/health", {}), ("/v1/models", bearer("predict"))):
        answer = await client.get(path, headers=headers | {"host": "news.example"})
        assert answer.status_code == 200


async def test_exactly_health_ready_and_the_page_are_open(client: httpx.AsyncClient) -> None:
    for path in ("/health", "/ready"):
        assert (await client.get(path)).json()["status"] == "ok"
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
        async with client_of(app, root_path) as client:
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
    for name in SECRETS.keys() - {"events"}:
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

    security = Security(spy, app.state.service.settings.api_keys)
    for path, name in (("/rank", "admin"), ("/v1/models", "predict"), ("/health", None)):
        headers = [(b"authorization", bearer(name)["authorization"].encode())] if name else []
        await asgi(security, {"type": "http", "path": path, "headers": headers, "state": {}})
    assert [found and found.name for found in seen] == ["admin", "predict", None]
