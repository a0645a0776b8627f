"""The committed OpenAPI file is what the service has, and no request of its kind breaks it."""

import asyncio
import os
import re
import sys

from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from tests.support.models import ROOT
from tests.support.servers import serving
from tools.api_doc import DOCUMENT, document
from tools.openapi import COMMITTED, description


def test_the_committed_file_is_current() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == description(), "run `make openapi`"


def test_the_page_made_from_it_is_current() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run `make openapi`"


async def schemathesis(url: str, *options: str) -> str:
    """Run Schemathesis with the committed file against a service; gives its report.

    Checks that no answer is a 5xx and that each has the form the file promises. Half surrogates
    and huge integers are among the values sent.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", str(COMMITTED), "--url", url),
        *("--checks", "not_a_server_error,status_code_conformance,response_schema_conformance"),
        *("--seed", "1", *options),
        cwd=ROOT,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.support.odd_values"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    report = (await process.communicate())[0].decode()
    assert process.returncode == 0, report
    return report


async def test_schemathesis_finds_nothing_on_the_fake_engine(app: FastAPI) -> None:
    bodies: list[bytes] = []

    async def noted(scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_noted() -> Message:
            message = await receive()
            bodies.append(message.get("body", b""))
            return message

        await app(scope, receive_noted, send)

    async with serving(noted) as url:
        report = await schemathesis(url, "--max-examples", "40")
    found = re.search(r"(\d+) generated, (\d+) passed", report)
    assert found, report
    assert int(found[1]) == int(found[2]) > 500
    sent = b" ".join(bodies)
    assert len(re.findall(rb"\\ud[89a-f]", sent)) > 50, "half surrogates"
    assert len(re.findall(rb"[: ]-?\d{20,}", sent)) > 50, "huge integers"
