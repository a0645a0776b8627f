"""docs/tutorial.md as a reader follows it: its commands in order, with a tiny model."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.scoring.profile import Profile
from tests.support.long_commands import Beside
from tests.support.training_page import blocks
from tests.support.tutorial_page import PAGE, prepare

BOTH = {"today", "tutorial-v1"}
READERS, VISITS = 6, 60


@pytest.fixture(scope="module")
def tutorial_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tutorial")


@pytest.fixture(scope="module")
def output(tutorial_folder: Path) -> Iterator[str]:
    """What the commands print."""
    command, environment = prepare(tutorial_folder)
    commands = Beside()
    yield commands.begin(command, tutorial_folder, **environment).result()
    commands.stop()


def answers(output: str, start: str) -> list[dict[str, Any]]:
    """The JSON objects that begin so."""
    places = [match.start() for match in re.finditer(re.escape(start), output)]
    return [json.JSONDecoder().raw_decode(output, place)[0] for place in places]


def test_only_the_setup_is_not_run() -> None:
    marked = [block.text for block in blocks(PAGE) if block.language == "sh" and block.mark]
    comment, *commands = marked[0].splitlines()
    assert len(marked) == 1
    assert comment.startswith("# once")
    assert [re.split(r" (?:cpu|\.venv|smollm2|minilm)", line)[0] for line in commands] == [
        "requirements/install.sh",
        "source",
        "python -m training download",
        "python -m training download",
    ]


def test_the_adapter_is_calibrated(output: str, tutorial_folder: Path) -> None:
    file = tutorial_folder / "models/adapters/tutorial-v1/profile.json"
    assert Profile.model_validate_json(file.read_bytes()).calibration.slope != 1
    report = (tutorial_folder / "runs/tutorial/report.html").read_text("utf-8")
    assert "tutorial-v1" in report


def test_both_models_get_readers_and_clicks(output: str) -> None:
    [report] = answers(output, '{"models":')
    split = {row["model"]: row for row in report["models"] if row["alias"] == "default"}
    assert split.keys() == BOTH
    assert sum(row["answers_with_feedback"] for row in split.values()) == READERS + VISITS
    assert sum(row["clicks"] for row in split.values()) >= READERS
    [difference] = report["differences"]
    assert {difference["model"], difference["other"]} == BOTH
    assert difference["click_through"]["anytime"] is None  # too early, as the page says


def test_the_alias_moves_and_comes_back(output: str) -> None:
    said = answers(output, '{"alias":"default","weights":')
    assert [answer["weights"] for answer in said] == [
        {"today": 50, "tutorial-v1": 50},
        {"tutorial-v1": 1},
        {"today": 1},
    ]
