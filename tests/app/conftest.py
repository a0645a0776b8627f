from pathlib import Path

import pytest

from tests.support.rankers import MODEL, make_tower, write_model
from tests.support.tiny_encoder import make_tiny_encoder
from training.ranking.tower_model import Tower


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_encoder(tmp_path_factory.mktemp("tiny-encoder"))


@pytest.fixture(scope="session")
def tower(encoder: Path) -> Tower:
    return make_tower(encoder)


@pytest.fixture(scope="session")
def ranked(tmp_path_factory: pytest.TempPathFactory, encoder: Path, tower: Tower) -> Path:
    """A model with a ranker, an encoder's cosines and a tower. No test changes it."""
    return write_model(tmp_path_factory.mktemp("models") / MODEL, encoder, tower)
