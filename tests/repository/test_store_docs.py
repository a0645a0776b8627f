"""The documents on the store tell the truth about its tables and calls."""

import asyncio
import json
import re

from fastapi import FastAPI

from app.store.tables import metadata
from tests.repository.test_docs import blocks
from tests.support.models import ROOT
from tests.support.servers import serving


def test_the_data_model_has_every_table_and_column() -> None:
    page = (ROOT / "docs" / "data-model.md").read_text(encoding="utf-8")
    for table in metadata.sorted_tables:
        if f"### {table.name}\n" in page:
            [_, part] = page.split(f"### {table.name}\n")
            part = part.split("\n#")[0]
            named = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\|([^|]*)\|", part, re.M)))
        else:
            [row] = re.findall(rf"^\| `{table.name}` \|([^|]*)\|", page, re.M)
            named = re.findall(r"`(\w+)`", row)
        assert sorted(named) == sorted(column.name for column in table.columns), table.name


async def test_the_calls_of_the_stores_page(app: FastAPI) -> None:
    page = blocks(ROOT / "docs" / "operations" / "store.md")
    commands = [text for _, text in page if "localhost:8000" in text]
    answers = []
    async with serving(app) as url:
        for command in commands:
            script = command.replace("localhost:8000", url.removeprefix("http://"))
            process = await asyncio.create_subprocess_shell(
                script.replace("'\ncurl", "'\necho\ncurl"), stdout=asyncio.subprocess.PIPE
            )
            output = (await process.communicate())[0].decode()
            answers += [json.loads(line) for line in output.splitlines()]
    stored, accepted, ranked = answers
    assert (stored, accepted) == ({"stored": 2}, {"accepted": 2, "duplicates": 0})
    assert {one["id"] for one in ranked["results"]} == {"N1", "N2"}
    assert ranked["results"][0]["history_used"] == 1
