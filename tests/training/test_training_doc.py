"""docs/training.md as a reader follows it: its commands in order, small data, a tiny model."""

import json
import re
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

from app.scoring.profile import COMPACT, Profile
from tests.support.models import ROOT
from tests.support.training_page import PAGE, blocks
from training.__main__ import COMMANDS

RANKER_PAGE = ROOT / "docs" / "ranker.md"
REFRESH_PAGE = ROOT / "docs" / "refresh.md"
OWN_DATA_PAGE = ROOT / "docs" / "your-own-data.md"
LEFT_OUT = {
    "install": ["requirements/install.sh", "source"],
    "download": ["unzip", "unzip", "python -m training download", "python -m training download"],
    "gpu": ["torchrun", "accelerate launch", "torchrun"],
    "estimate": [*["python -m training score"] * 2, "python -m training estimate"],
}
"""Why a block is not run here, and what its commands are."""


@pytest.fixture
def output(page_run: Future[str]) -> str:
    """What the commands print."""
    found = page_run.result()
    print(found)  # shown where a test fails
    return found


@pytest.fixture
def folder(page_folder: Path) -> Path:
    return page_folder


def test_what_is_not_run_is_said_here() -> None:
    marked = [block for block in blocks() if block.language == "sh" and block.mark]
    assert [block.mark for block in marked] == list(LEFT_OUT)
    for block in marked:
        comment, *lines = block.text.replace("\\\n", " ").splitlines()
        assert comment.startswith(("# once", "# GPU")), block.text
        for line, start in zip(lines, LEFT_OUT[block.mark], strict=True):
            assert line.startswith(f"{start} "), line


def test_every_command_is_on_one_of_the_pages() -> None:
    others = [
        page.read_text(encoding="utf-8") for page in (RANKER_PAGE, OWN_DATA_PAGE, REFRESH_PAGE)
    ]
    text = "\n".join([*(block.text for block in blocks()), *others])
    assert {name for name in COMMANDS if f"-m training {name} " not in text} == set()


def test_the_served_adapter_answers(output: str) -> None:
    starts = [match.start() for match in re.finditer(r'\{"id":', output)]
    answers = [json.JSONDecoder().raw_decode(output, start)[0] for start in starts]
    assert [answer["model"] for answer in answers] == ["news-v1"]
    assert 0 < answers[0]["probability"] < 1


def test_what_the_commands_leave(output: str, folder: Path) -> None:
    manifests = [folder / "data" / name / "manifest.json" for name in ("mind", "mind-original")]
    recipes = [json.loads(file.read_bytes())["recipe"] for file in manifests]
    assert recipes == ["temporal", "original"]
    profile = Profile.model_validate_json((folder / "models/news-v1/profile.json").read_bytes())
    assert profile.calibration.slope != 1
    merged = folder / "models/news-v1-merged"
    assert Profile.model_validate_json((merged / "profile.json").read_bytes()) == profile
    page = (folder / "runs/eval/report.html").read_text("utf-8")
    assert "news-v1 (http)" in page
    assert "news-v1 (transformers)" in page
    assert page.count('aria-label="Loss while training news-v1"') == 1  # though asked twice


def test_http_and_transformers_measure_the_same(output: str, folder: Path) -> None:
    """Up to float32's rounding: the tiny model is stored so, and nearly equal scores, of which it
    gives many, may change places: one pair of an impression is worth 0.005 of the AUC."""
    by_http, by_transformers = (
        {model["name"]: model for model in json.loads(file.read_bytes())["models"]}
        for file in (folder / "runs" / name / "evaluation.json" for name in ("http", "eval"))
    )
    assert list(by_transformers) == ["base", "news-v1"]
    for name in ("auc", "mrr", "ndcg_at_5", "ndcg_at_10", "log_loss", "sure_mass"):
        mine, theirs = (found["news-v1"]["figures"] for found in (by_http, by_transformers))
        most = 1e-3 if name in ("log_loss", "sure_mass") else 0.02
        assert mine[name]["value"] == pytest.approx(theirs[name]["value"], abs=most), name
    sizes = [(row["task"], row["size"]) for row in by_http["news-v1"]["speed"]]
    assert sizes == [("score", 1), ("score", 8), ("text", 1), ("text", 8)]


def test_llama_factory_finds_the_data_sets_that_the_page_names(output: str, folder: Path) -> None:
    (config,) = (block.text for block in blocks() if block.language == "yaml")
    register = json.loads((folder / "data/mind/dataset_info.json").read_bytes())
    named = re.findall(r"^(?:eval_)?dataset: (\w+)$", config, re.M)
    assert named == list(register) == ["mind", "mind_val"]
    (profile,) = (block.text for block in blocks() if block.language == "json")
    assert Profile.model_validate_json(profile).layout == COMPACT


def test_documented_options_exist() -> None:
    """Names in `code` that look like options are fields of the configuration or of the data."""
    from dataclasses import fields

    from training.tuning.config import FinetuneConfig

    section = PAGE.read_text("utf-8").split("## 3. Finetune")[1].split("## 4.")[0]
    text = section.split("All options")[1].split("Ours:")[0]
    named = set(re.findall(r"`([a-z]\w+_\w+|optim|bf16)`", text))
    assert len(named) > 15
    assert named <= {field.name for field in fields(FinetuneConfig)}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_instant_and_shows_a_command(name: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "training", name, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.search(rf"^ *python -m training {name} ", done.stdout, re.M)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"torch", "transformers", "polars", "numpy", "vllm", "matplotlib"}
