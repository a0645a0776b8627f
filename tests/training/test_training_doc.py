"""docs/training.md as a reader follows it: its commands in order, small data, a tiny model."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from app.scoring.profile import COMPACT, Profile
from tests.models import ROOT, qwen3_tokenizer_files
from tests.servers import free_port
from tests.training.tiny import make_tiny
from training.__main__ import COMMANDS

PAGE = ROOT / "docs" / "training.md"
MIND = ROOT / "tests" / "fixtures" / "mind"
LEFT_OUT = {
    "install": ["requirements/install.sh", "source"],
    "download": ["unzip", "unzip", "python -m training download", "python -m training download"],
    "gpu": ["torchrun", "accelerate launch", "torchrun"],
}
"""Why a block is not run here, and what its commands are."""


class Block(NamedTuple):
    language: str
    mark: str
    text: str


def blocks() -> list[Block]:
    found = re.findall(r"^```(\w+) ?(\w*)\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    return [Block(*one) for one in found]


def shell() -> tuple[dict[str, str], list[str]]:
    """The variables of the first block with their usual values, and the blocks to run."""
    first, *rest = [block.text for block in blocks() if block.language == "sh" and not block.mark]
    variables = dict(word.split("=", 1) for word in shlex.split(first, comments=True))
    return variables, rest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as a reader has it, with nothing in models/, data/ and runs/ yet."""
    root = tmp_path_factory.mktemp("repository")
    for name in ("app", "training", "configs"):
        (root / name).symlink_to(ROOT / name)
    for name, split in (("train", "train"), ("dev", "val")):
        shutil.copytree(MIND / split, root / "mind" / name)
    make_servable(root / "models" / "tiny")
    return root


def make_servable(folder: Path) -> None:
    """The tiny Qwen3, with a chat template."""
    folder.mkdir(parents=True)
    make_tiny(folder, heads=2)
    file = folder / "tokenizer_config.json"
    chat = json.loads((qwen3_tokenizer_files() / "tokenizer_config.json").read_bytes())
    config = json.loads(file.read_bytes()) | {"chat_template": chat["chat_template"]}
    file.write_text(json.dumps(config))


@pytest.fixture(scope="module")
def output(folder: Path) -> str:
    """What the commands print, all in one shell that stops at the first that fails."""
    usual, commands = shell()
    values = {"MIND": "mind", "MODEL": "models/tiny", "DATA": "data/mind", "PORT": str(free_port())}
    assert usual.keys() == values.keys()
    lines = [
        "PS4='+ $SECONDS s: '",
        "set -euxo pipefail",
        "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT",
    ]
    lines += [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    return run("\n".join([*lines, *commands]), folder)


def run(script: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},  # tiny models gain from no more
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        found, _ = process.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        found, _ = process.communicate()
        raise AssertionError(f"not done in time:\n{found[-8000:]}") from None
    print(found)  # shown where a test fails
    assert process.returncode == 0, found[-8000:]
    return found


def test_what_is_not_run_is_said_here() -> None:
    marked = [block for block in blocks() if block.language == "sh" and block.mark]
    assert [block.mark for block in marked] == list(LEFT_OUT)
    for block in marked:
        comment, *lines = block.text.replace("\\\n", " ").splitlines()
        assert comment.startswith(("# once", "# GPU")), block.text
        for line, start in zip(lines, LEFT_OUT[block.mark], strict=True):
            assert line.startswith(f"{start} "), line


def test_every_command_is_on_the_page() -> None:
    text = "\n".join(block.text for block in blocks())
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

    from training.config import FinetuneConfig

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
