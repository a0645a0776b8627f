"""Connections as clients and proxies use them, on real sockets."""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn

from app.engine.fake import FakeEngine
from app.main import create_app
from app.server import Server
from app.settings import Settings
from loadtests.services import free_port
from tests.support.models import SMOLLM2
from tests.support.waiting import HANG_S

BODY = b'{"target": "Tesla unveils a car"}'
SIZED = b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n5\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (
    *(BODY[:5], len(BODY) - 5),
    BODY[5:],
)
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
OFFERS = {
    "h2c": H2C,
    "TLS, two headers": b"Connection: keep-alive\r\nUpgrade: TLS/1.2\r\nConnection: Upgrade\r\n",
    "a list": b"connection: upgrade\r\nupgrade: h2c, websocket\r\n",
    "none": b"",
}


def post(headers: bytes = b"", framed_body: bytes = SIZED) -> bytes:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head + headers + framed_body


@asynccontextmanager
async def served(state: Path, keep_alive_s: int = 75) -> AsyncIterator[int]:
    """The port of a service with a real server."""
    settings = Settings(model=SMOLLM2, state=state, keep_alive_s=keep_alive_s)
    app = create_app(settings, FakeEngine())
    async with app.router.lifespan_context(app):
        port = free_port()
        config = uvicorn.Config(app, port=port, lifespan="off", log_config=None)
        server = Server(config, app.state.service)
        ended = asyncio.create_task(server.run_until_end())
        while not server.started:
            await asyncio.sleep(0.01)
        yield port
        server.should_exit = True
        await ended


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    async with served(tmp_path) as port:
        yield port


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of the next answer."""
    async with asyncio.timeout(HANG_S):
        status, *headers = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        (length,) = [line for line in headers if line.startswith(b"content-length:")]
        return int(status.split()[1]), await reader.readexactly(int(length.split(b":")[1]))


@pytest.mark.parametrize("framed_body", [SIZED, CHUNKED], ids=["sized", "chunked"])
@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("pieces", ["at once", "bytes", "head and body"])
async def test_an_offered_protocol_is_ignored(
    port: int, offer: str, framed_body: bytes, pieces: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = post(OFFERS[offer], framed_body)
    head_end = request.index(b"\r\n\r\n") + 4
    parts = {
        "at once": [request],
        "bytes": [request[place : place + 1] for place in range(len(request))],
        "head and body": [request[:head_end], request[head_end:]],
    }[pieces]
    for turn in range(2):  # the connection stays usable
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.02 if pieces == "head and body" else 0)
        status, body = await answer(reader)
        assert status == 200, (turn, body)
        assert json.loads(body)["label"] in ("Yes.", "No.")
    writer.close()


async def test_requests_sent_without_waiting_are_answered_in_order(port: int) -> None:
    """A thousand of them, so that no answer may depend on the one before by a call."""
    offers = [H2C if number % 3 else b"" for number in range(1500)]
    names = [b"X-Request-Id: number-%d\r\n" % number for number in range(1500)]
    requests = [post(offer + name) for offer, name in zip(offers, names, strict=True)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join(requests))
    for number in range(1500):
        status, body = await answer(reader)
        assert status == 200, body
        assert json.loads(body)["id"] == f"number-{number}"
    writer.close()


async def test_an_offer_without_a_body_or_with_expect(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + H2C + b"\r\n")
    assert await answer(reader) == (200, b'{"status":"ok","engine":"ready"}')
    head, _, body = post(H2C + b"Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HANG_S) == (
        b"HTTP/1.1 100 Continue\r\n\r\n"
    )
    writer.write(body)
    assert (await answer(reader))[0] == 200
    writer.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\n" + H2C + b"Content-Length: x\r\n\r\n{}",
        post(H2C + b"Transfer-Encoding: chunked\r\n"),  # and Content-Length: smuggling
    ],
)
async def test_what_is_no_request_is_still_refused(port: int, request_: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_)
    assert (await answer(reader))[0] == 400
    assert await reader.read() == b""
    writer.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl_with_http2(port: int) -> None:
    command = ["curl", "-sS", "--http2", "-m", "10", f"http://127.0.0.1:{port}/predict"]
    command += ["-H", "content-type: application/json", "-d", BODY.decode()]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    assert json.loads(done.stdout)["history_used"] == 0


async def test_an_idle_connection_stays_open_as_long_as_the_setting_says(tmp_path: Path) -> None:
    async with served(tmp_path, keep_alive_s=1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(H2C))
        assert (await answer(reader))[0] == 200
        started = time.monotonic()
        assert await asyncio.wait_for(reader.read(), HANG_S) == b""
        assert time.monotonic() - started >= 0.9
        writer.close()


async def test_the_default_outlives_what_proxies_keep(port: int) -> None:
    """nginx and AWS's load balancers keep idle connections for 60 s, uvicorn by itself for 5."""
    assert Settings(model=SMOLLM2).keep_alive_s >= 75
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for pause_s in (5.5, 0):
        writer.write(post())
        assert (await answer(reader))[0] == 200
        await asyncio.sleep(pause_s)
    writer.close()
