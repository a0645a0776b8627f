"""What training tests share: the fixture data set, prepared, and a tiny model made on the spot."""

from pathlib import Path

import pytest
import torch

from tests.models import ROOT
from tests.training.tiny import make_tiny
from training.__main__ import main

MIND = ROOT / "tests" / "fixtures" / "mind"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "mind"
    splits = ["--train", str(MIND / "train"), "--val", str(MIND / "val")]
    assert main(["prepare", *splits, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny models only lose by sharing their work."""
    torch.set_num_threads(1)
