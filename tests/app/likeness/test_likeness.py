"""Cosines, the cache of vectors, and the tower in NumPy against the one that PyTorch trains."""

from pathlib import Path

import numpy as np
import pytest
import torch

from app.likeness.cache import Vector, VectorCache, content_key
from app.likeness.cosine import cosines
from app.likeness.encoder import SentenceEncoder
from app.likeness.folder import EncoderError
from app.likeness.tower import (
    TOWER_FILE,
    ReaderEncoder,
    TowerError,
    TowerFile,
    read_tower,
)
from tests.support.tiny_encoder import make_tiny_encoder
from training.ranking.tower_model import LowRank, Tower, load_encoder

TITLES = ["one two three", "four", "five six seven eight nine ten", "two two"]


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def tower(encoder_folder: Path) -> Tower:
    """A tower with random weights, as if trained."""
    torch.manual_seed(1)
    made = Tower(load_encoder(encoder_folder), rank=2)
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, LowRank):
                module.up.normal_(std=0.3)
        made.story_bias.weight.normal_(std=0.3)
        for parameter in made.parameters():  # what half precision keeps
            parameter.copy_(parameter.half().float())
    return made.eval()


def test_vectors_have_unit_length_and_do_not_depend_on_the_batch(encoder_folder: Path) -> None:
    encoder = SentenceEncoder(encoder_folder)
    together = encoder.embed(TITLES)
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(4))
    alone = np.concatenate([encoder.embed([title]) for title in TITLES])
    assert np.abs(together - alone).max() < 1e-5
    with pytest.raises(EncoderError, match="not a sentence encoder"):
        SentenceEncoder(encoder_folder / "missing")


@torch.inference_mode()
def test_the_service_computes_what_was_trained(
    encoder_folder: Path, tower: Tower, tmp_path: Path
) -> None:
    tower.to_file("tiny").write(tmp_path)
    read = read_tower(tmp_path)
    assert read is not None
    assert read.encoder == "tiny"
    vectors = SentenceEncoder(encoder_folder, read.tensors).embed(TITLES)
    plain = SentenceEncoder(encoder_folder).embed(TITLES)
    assert np.abs(vectors - plain).max() > 0.01
    served = ReaderEncoder(read.tensors)
    for history in ([0, 1, 2], [0, 2, 1], [3], []):
        known = torch.tensor([[True] * len(history) + [False] * (4 - len(history))])
        padded = torch.zeros(1, 4, vectors.shape[1])
        padded[0, : len(history)] = torch.from_numpy(vectors[history])
        expected = tower.readers(padded, known)
        found = served.reader(vectors[history])
        assert np.abs(found - expected[0].numpy()).max() < 1e-4
        assert (served.reader(vectors[history].copy()) == found).all()  # remembered
        scores = tower(expected, torch.from_numpy(vectors)[None])[0].numpy()
        assert served.scores(found, vectors) == pytest.approx(scores, abs=1e-3)


def test_a_tower_that_can_not_be_used_is_named(tower: Tower, tmp_path: Path) -> None:
    assert read_tower(tmp_path) is None
    tensors = dict(tower.to_file("tiny").tensors)
    TowerFile("tiny", {k: v for k, v in tensors.items() if k != "nobody"}).write(tmp_path)
    with pytest.raises(TowerError, match="lacks nobody"):
        read_tower(tmp_path)
    TowerFile("tiny", tensors | {"nobody": tensors["nobody"] * np.float16("nan")}).write(tmp_path)
    with pytest.raises(TowerError, match="nobody holds numbers"):
        read_tower(tmp_path)
    (tmp_path / TOWER_FILE).write_bytes(b"broken")
    with pytest.raises(TowerError, match="can't be read"):
        read_tower(tmp_path)


def test_a_tower_of_another_encoder_is_refused(encoder_folder: Path, tower: Tower) -> None:
    tensors = dict(tower.to_file("tiny").tensors)
    other = {key.replace(".layer.1.", ".layer.7."): value for key, value in tensors.items()}
    with pytest.raises(EncoderError, match="another encoder"):
        SentenceEncoder(encoder_folder, other)


def test_cosines_are_those_of_a_plain_computation() -> None:
    random = np.random.default_rng(0)
    history, candidates = (random.normal(size=(n, 8)).astype(np.float32) for n in (9, 3))
    each = candidates @ history.T
    ordered = np.sort(each, axis=1)
    found = cosines(history, candidates)
    assert found[:, 0] == pytest.approx(each.mean(1), abs=1e-6)
    assert found[:, 1] == pytest.approx(each.max(1), abs=1e-6)
    assert found[:, 2] == pytest.approx(ordered[:, -5:].mean(1), abs=1e-6)
    assert found[:, 3] == pytest.approx(each[:, -5:].mean(1), abs=1e-6)
    assert (cosines(history[:0], candidates) == 0).all()
    assert cosines(history[:2], candidates)[:, 2] == pytest.approx(each[:, :2].mean(1), abs=1e-6)


def test_the_least_recently_used_vectors_leave() -> None:
    cache = VectorCache[bytes, Vector](limit=2)
    a, b, c = (content_key(text) for text in "abc")
    vectors = {key: np.array([number], np.float16) for number, key in enumerate((a, b, c))}
    cache.put({a: vectors[a], b: vectors[b]})
    assert cache.known([a]) == {a: vectors[a]}
    cache.put({c: vectors[c]})
    assert len(cache) == 2
    assert cache.known([a, b, c]) == {a: vectors[a], c: vectors[c]}


def test_a_vectors_key_tells_text_and_encoder() -> None:
    keys = {content_key("a"), content_key("b"), content_key("a", b"x"), content_key("a", b"y")}
    assert len(keys) == 4
