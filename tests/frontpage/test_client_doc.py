"""docs/client.md: its programs run, in their order, and its tables are complete."""

import asyncio
import inspect
import os
import re
import subprocess
import sys

from fastapi import FastAPI

from frontpage import errors
from frontpage.client import URL, Client
from tests.support.models import ROOT, SMOLLM2
from tests.support.servers import serving

TEXT = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.S | re.M)


def rows(heading: str) -> list[str]:
    """The names in a table's first column."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.M)


async def test_its_programs_run(app: FastAPI) -> None:
    async with serving(app) as url:
        program = "\n".join(PROGRAMS)
        assert program.count(URL) == 2
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-W", "error", "-c", program.replace(URL, url)],
            cwd=ROOT,
            env={**os.environ, "OPENAI_API_KEY": ""},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    first, best, compared, refused = done.stdout.splitlines()
    assert re.fullmatch(rf"{SMOLLM2.name}: 0\.\d{{3}}", first)
    assert best in ("N1", "N2")
    assert compared in ("True", "False")
    assert refused.startswith("invalid_value candidates.1.title ")


def test_its_tables_are_complete() -> None:
    known = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.FrontpageError)
    }
    assert set(rows("Errors")) == known
    arguments = list(inspect.signature(Client.__init__).parameters)
    assert rows("Settings of a client") == arguments[1:]
