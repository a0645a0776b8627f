"""What training tests share: data sets, prepared; tiny models made on the spot; long commands."""

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.support import own_data_page as own_data
from tests.support import training_page as page
from tests.support.evaluate_runs import LIMIT, PROFILE, QUICK, evaluate, vllm_arguments
from tests.support.long_commands import Beside
from tests.support.models import MIND, ROOT, make_lora, make_tiny_qwen3
from tests.support.postgres import Postgres
from tests.support.tiny_training import make_tiny
from training.__main__ import main
from training.data.prepared import Impression, PreparedData


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("prepared") / "mind", "train", "val")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a split that has no labels."""
    return prepare(tmp_path_factory.mktemp("data") / "mind", "train", "val", "test")


def prepare(out: Path, *splits: str) -> Path:
    named = [f"--{split}={MIND / split}" for split in splits]
    assert main(["prepare", *named, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base in bfloat16."""
    base = make_tiny(tmp_path_factory.mktemp("half"), seed=3)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.bfloat16().save_pretrained(base)
    return base


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base, a Qwen3 with random weights, and tuned, a LoRA adapter on it with a profile."""
    folder = tmp_path_factory.mktemp("models")
    base = make_tiny_qwen3(folder / "base")
    make_lora(base, folder / "tuned", seed=1, **PROFILE.model_dump(mode="json"))
    return folder


@pytest.fixture(scope="session")
def rows(data: Path) -> list[Impression]:
    """The impressions that --limit leaves: evenly spread over the split."""
    every = list(PreparedData(data).impressions("val"))
    return [every[number * len(every) // LIMIT] for number in range(LIMIT)]


@pytest.fixture(scope="session")
def result(data: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of evaluate with transformers."""
    output = tmp_path_factory.mktemp("runs") / "eval"
    timed = ["--speed-seconds", "0.1", "--sizes", "1", "2", "--text-pairs", "2"]
    return evaluate(data, models, output, *QUICK, *timed)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny models only lose by sharing their work."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def beside() -> Iterator[Beside]:
    commands = Beside()
    yield commands
    commands.stop()


@pytest.fixture(scope="session")
def page_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    page.make_repository(root)
    return root


@pytest.fixture(scope="session")
def page_run(beside: Beside, page_folder: Path) -> "Future[str]":
    """docs/training.md's commands. What is served computes in float32, as transformers does."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {"PATH": path, "FRONTPAGE_ENGINE__DTYPE": "float32"}
    return beside.begin(["bash", "-c", page.script()], page_folder, **variables)


@pytest.fixture(scope="session")
def own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own-data")


@pytest.fixture(scope="session")
def own_data_run(beside: Beside, own_data_folder: Path, postgres: Postgres) -> "Future[str]":
    """docs/your-own-data.md's commands, with a database of a small site."""
    command, folder, environment = own_data.prepare(own_data_folder, postgres)
    return beside.begin(command, folder, **environment)


@pytest.fixture(scope="session")
def vllm_output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vllm")


@pytest.fixture(scope="session")
def vllm_run(beside: Beside, data: Path, models: Path, vllm_output: Path) -> "Future[str]":
    """evaluate with vLLM."""
    return beside.begin([sys.executable, *vllm_arguments(data, models, vllm_output)], ROOT)


LONG = ("page_run", "own_data_run", "vllm_run")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that wait for a long command come last, so that it runs beside all the others."""

    def place(item: pytest.Item) -> int:
        used = getattr(item, "fixturenames", ())
        return max((1 + LONG.index(name) for name in used if name in LONG), default=0)

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def begun(request: pytest.FixtureRequest) -> None:
    """The long commands that selected tests ask for begin before the first test."""
    used = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    for name in LONG:
        if name in used:
            request.getfixturevalue(name)


@pytest.fixture(scope="session")
def vllm_result(vllm_run: "Future[str]", vllm_output: Path) -> dict[str, Any]:
    vllm_run.result()
    found: dict[str, Any] = json.loads((vllm_output / "evaluation.json").read_bytes())
    return found
