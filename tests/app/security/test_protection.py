"""Rate limits, CORS, sizes, where to listen, new keys: what else guards the service."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.engine.fake import FakeEngine
from app.main import create_app
from app.security.hosts import listening_host
from app.security.keys import new_key
from app.settings import Settings
from tests.support.keys import bearer, guarded, refused
from tests.support.models import ROOT, SMOLLM2
from tests.support.servers import client_of

settings = pytest.fixture(guarded)


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


STAINLESS = (
    *("lang", "package-version", "os", "arch", "runtime", "runtime-version", "retry-count"),
    *("timeout", "helper-method", "poll-helper", "custom-poll-interval"),
)
OPENAIS = ("authorization", "content-type", "openai-organization", "openai-project", "user-agent")
SENT = {
    "OpenAI's JavaScript SDK": [*OPENAIS, *(f"x-stainless-{name}" for name in STAINLESS)],
    "another client": ["idempotency-key", "x-request-timeout-ms", "x-some-framework-version"],
}


@pytest.mark.parametrize("sender", SENT)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("HEAD", "/ready"),
        ("POST", "/rank"),
    ],
)
async def test_a_client_in_a_page_may_send_its_own_headers(
    client: httpx.AsyncClient, sender: str, method: str, path: str
) -> None:
    ask = {
        "origin": "https://news.example",
        "access-control-request-method": method,
        "access-control-request-headers": ",".join(SENT[sender]),
    }
    preflight = await client.options(path, headers=ask)
    assert preflight.status_code == 200, preflight.text
    allowed = preflight.headers["access-control-allow-headers"].replace(" ", "").split(",")
    assert {*SENT[sender]} <= {*allowed}
    assert method in preflight.headers["access-control-allow-methods"]
    stranger = await client.options(path, headers=ask | {"origin": "https://evil.example"})
    assert stranger.status_code == 400
    assert "access-control-allow-origin" not in stranger.headers


async def test_cors_is_off_by_default(tmp_path: Path, engine: FakeEngine) -> None:
    app = create_app(Settings(model=SMOLLM2, state=tmp_path), engine)
    async with client_of(app) as client:
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
    """It warns only where the setting says otherwise."""
    for host, level in (("0.0.0.0", "WARNING"), ("::", "WARNING"), ("127.0.0.1", "INFO")):
        caplog.clear()
        caplog.set_level("INFO", "frontpage")
        open_to_all = settings.model_copy(update={"api_keys": (), "host": host})
        assert listening_host(open_to_all) == "127.0.0.1"
        (record,) = caplog.records
        assert record.levelname == level
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
    done = subprocess.run(
        [*command, "--scope", "predict", "events"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    scopes = json.loads(done.stdout.splitlines()[1].split(": ", 1)[1])["scopes"]
    assert sorted(scopes) == ["events", "predict"]
