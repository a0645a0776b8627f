"""The documents tell the truth about links, commands, options and settings.

tests/training/test_training_doc.py runs the blocks of docs/training.md.
"""

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from fastapi import FastAPI

from app.scoring.profile import Profile
from app.scoring.wording import Reader, Story
from app.settings import Limits, Settings
from tests.support.models import ROOT
from tests.support.servers import serving
from training.data.prepared import Impression
from training.evaluation.backends.base import MAX_TOKENS, TEMPERATURE
from training.evaluation.backends.service import ServiceBackend
from training.tuning.config import FinetuneConfig

DOCUMENTS = sorted(
    file
    for pattern in ("*.md", "docs/**/*.md", "adapters/*/README.md", "examples/*.md")
    for file in ROOT.glob(pattern)
)
FENCE = re.compile(r"^[ ]*```(.*?)\n(.*?)^[ ]*```$", re.S | re.M)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)
COMMAND = re.compile(r"-m ([a-z_]+(?:\.[a-z_]+)*)(?![\w.])([^|&;#\n]*)")
OURS = {"app", "examples", "frontpage", "loadtests", "tests", "tools", "training"}
OTHER_VARIABLES = {"FRONTPAGE_CONFIG", "FRONTPAGE_SECRETS"}  # read by app/settings.py itself

every_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT))
)


@cache
def read(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def blocks(document: Path) -> list[tuple[str, str]]:
    """(info, text) of each fenced block."""
    return [(found[1], found[2]) for found in FENCE.finditer(read(document))]


def prose(document: Path) -> str:
    return FENCE.sub("", read(document))


def code(document: Path) -> str:
    """Shell blocks without comments, continued lines joined, and what stands in backticks."""
    shell = [text for info, text in blocks(document) if info.split(" ")[0] == "sh"]
    lines = re.sub(r"\\\n\s*", "", "\n".join(shell))
    lines = re.sub(r"(^|\s)#.*$", "", lines, flags=re.M)
    return "\n".join([lines, *(" ".join(text.split()) for text in INLINE.findall(prose(document)))])


def anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    found: list[str] = []
    for heading in HEADING.findall(prose(document)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = sum(one == slug or re.fullmatch(rf"{slug}-\d+", one) is not None for one in found)
        found.append(f"{slug}-{number}" if number else slug)
    return set(found)


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    text = INLINE.sub("code", prose(document))
    for link in LINK.findall(text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{link}: {target} is not there"
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


def test_a_heading_becomes_githubs_anchor(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(
        "# A `b`, c-d\n```sh\n# no heading\n```\n## GET /a/{b}\n## 中文 1?\n# X\n# X\n"
    )
    assert anchors(document) == {"a-b-c-d", "get-ab", "中文-1", "x", "x-1"}


@every_document
def test_make_knows_each_target(document: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", read(ROOT / "Makefile"), re.M))
    named = set(re.findall(r"(?:^|[;&|] ?|=\S+ |' )make ([a-z][a-z-]*)", code(document), re.M))
    assert named <= targets


def commands(document: Path) -> set[tuple[str, str | None, str]]:
    """(module, subcommand, long option) of each `-m module … --option`; "" for no option."""
    found = set()
    for module, rest in COMMAND.findall(code(document)):
        words = rest.split()
        sub = words[0] if module == "training" and words and words[0].islower() else None
        options = re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)
        found |= {(module, sub, option) for option in ["", *options]}
    return found


COMMANDS = sorted({found for file in DOCUMENTS for found in commands(file)}, key=str)


@cache
def help_of(module: str, sub: str | None) -> str:
    words = [module, *([sub] if sub else []), "--help"]
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("module", "sub", "option"), COMMANDS, ids=str)
def test_commands_and_their_options_exist(module: str, sub: str | None, option: str) -> None:
    assert module.split(".")[0] in OURS
    assert find_spec(module) is not None
    if sub or option:
        known = re.findall(r"--[a-z][a-z-]*", help_of(module, sub))
        assert option in ["", *known]


@every_document
def test_training_options_and_their_files_exist(document: Path) -> None:
    options = {field.name for field in fields(FinetuneConfig)}
    assert set(re.findall(r"--set ([a-z_]+)[=.]", code(document))) <= options
    for file in re.findall(r"(?<![\w/.])configs/[\w.-]*\w", code(document)):
        assert (ROOT / file).exists(), file


@every_document
def test_variables_are_settings(document: Path) -> None:
    for variable in set(re.findall(r"FRONTPAGE_[A-Z_]*[A-Z]", read(document))) - OTHER_VARIABLES:
        name, _, inner = variable.removeprefix("FRONTPAGE_").lower().partition("__")
        assert name in Settings.model_fields, variable
        assert name != "limits" or inner in Limits.model_fields, variable
    for name in re.findall(r"`limits\.(\w+)", read(document)):
        assert name in Limits.model_fields, name


def test_both_readmes_show_the_same_code() -> None:
    assert blocks(ROOT / "README.zh.md") == blocks(ROOT / "README.md")
    links = [LINK.findall(prose(ROOT / name)) for name in ("README.md", "README.zh.md")]
    own = {"README.md", "README.zh.md"}
    assert set(links[0]) - own == set(links[1]) - own


def test_the_original_projects_chat_is_its_prompt() -> None:
    """The messages shown are those that evaluate sends, and that its layout makes."""
    page = blocks(ROOT / "docs" / "from-the-original-project.md")
    [call] = [text for _, text in page if "chat/completions" in text]
    body = json.loads(call[call.index("{") : call.rindex("}") + 1])
    assert (body["temperature"], body["max_tokens"]) == (TEMPERATURE, MAX_TOKENS)
    clicked, liked, passed, target = map(Story, ("Tesla", "Apple", "Rain", "Microsoft"))
    known = Reader([clicked, Story("SpaceX")], [liked], [passed])
    asked = Impression("1", "reader", known, [target], ["N1"], None)
    backend = ServiceBackend("news-original", "http://127.0.0.1", Profile(), 1)
    assert body["messages"] == backend.messages(asked)
    backend.close()


async def test_the_readmes_calls_have_the_answers_it_shows(app: FastAPI) -> None:
    """Its /predict and /rank, as a shell runs them; the answers' fields are those it shows."""
    shown = blocks(ROOT / "README.md")
    calls = [i for i, (_, text) in enumerate(shown) if re.search(r"8000/(predict|rank) ", text)]
    assert len(calls) == 2
    async with serving(app) as url:
        for place in calls:
            command = shown[place][1].replace("localhost:8000", url.removeprefix("http://"))
            process = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
            answer = json.loads((await process.communicate())[0])
            documented = json.loads(shown[place + 1][1])
            assert answer.keys() == documented.keys()
            for mine, theirs in zip(
                answer.get("results", []), documented.get("results", []), strict=True
            ):
                assert mine.keys() == theirs.keys()
