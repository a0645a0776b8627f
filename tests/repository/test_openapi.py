"""The committed OpenAPI file is what the service has, and no request of its kind breaks it."""

import asyncio
import re
import sys

from fastapi import FastAPI

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

    Checks that no answer is a 5xx and that each has the form the file promises.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", str(COMMITTED), "--url", url),
        *("--checks", "not_a_server_error,status_code_conformance,response_schema_conformance"),
        *("--seed", "1", *options),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    report = (await process.communicate())[0].decode()
    assert process.returncode == 0, report
    return report


async def test_schemathesis_finds_nothing_on_the_fake_engine(app: FastAPI) -> None:
    async with serving(app) as url:
        report = await schemathesis(url, "--max-examples", "40")
    found = re.search(r"(\d+) generated, (\d+) passed", report)
    assert found, report
    assert int(found[1]) == int(found[2]) > 500
