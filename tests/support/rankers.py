"""Small real rankers: trees fitted on invented clicks, a tiny sentence encoder and its tower."""

from collections.abc import Mapping
from pathlib import Path

import lightgbm
import numpy as np
import torch

from app.ranker.features import NAMES, VERSION, Floats
from app.ranker.ranker import (
    DESCRIPTION_FILE,
    FIRST_STAGE_FILE,
    RANKER_FILE,
    Description,
    describe_trees,
)
from tests.support.models import SMOLLM2
from tests.support.tiny_encoder import WORDS
from training.ranking.tower_model import LowRank, Tower, load_encoder

MODEL = "ranked"
"""The name of the model that `write_model` makes."""
TASTE = {"rate": 3.0, "text": 1.0, "cosine_max": 1.0, "tower": 0.3, "times_passed": -3.0}
"""How invented readers choose."""
STEADY = "hour"
"""The trees don't know the time of day, so that answers don't change while a test runs."""


def fit(matrix: Floats, clicked: Floats) -> lightgbm.Booster:
    data = lightgbm.Dataset(matrix, clicked, feature_name=list(NAMES))
    options = {"objective": "binary", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}
    return lightgbm.train(options, data, num_boost_round=20)


def write_ranker(
    folder: Path,
    encoder: str | None,
    tower: bool = True,
    half_life_s: float | None = None,
    only: Mapping[str, float] | None = None,
) -> Path:
    """Trees for an encoder of this name; the tower itself is not written. only: the trees know
    these features alone, with these weights."""
    random = np.random.default_rng(0)
    matrix = random.normal(size=(2000, len(NAMES)))
    matrix[:, NAMES.index(STEADY)] = 12.0
    if only is not None:
        matrix[:, [number for number, name in enumerate(NAMES) if name not in only]] = 0
    taste = TASTE if only is None else only
    pull = sum(weight * matrix[:, NAMES.index(name)] for name, weight in taste.items())
    clicked = (pull + random.logistic(size=2000) > 2).astype(np.float64)
    matrix[:200, NAMES.index("text")] = np.nan
    fit(matrix, clicked).save_model(folder / RANKER_FILE)
    fit(matrix, 1 - clicked).save_model(folder / FIRST_STAGE_FILE)
    described = Description(
        version=VERSION,
        features=NAMES,
        encoder=encoder,
        tower=tower,
        objective="binary",
        half_life_s=half_life_s,
        recent_half_life_s=3600,
        ranker=describe_trees(folder / RANKER_FILE, 0.9, -0.2),
        first_stage=describe_trees(folder / FIRST_STAGE_FILE, 1.0, 0.0),
    )
    (folder / DESCRIPTION_FILE).write_text(described.model_dump_json())
    return folder


def make_tower(encoder: Path) -> Tower:
    """With random weights, as if trained, such as half precision keeps."""
    torch.manual_seed(1)
    made = Tower(load_encoder(encoder), rank=2)
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, LowRank):
                module.up.normal_(std=0.3)
        made.story_bias.weight.normal_(std=0.3)
        for parameter in made.parameters():
            parameter.copy_(parameter.half().float())
    return made.eval()


def write_model(folder: Path, encoder: Path, tower: Tower) -> Path:
    """A model for the fake engine, with a ranker and its tower."""
    folder.mkdir()
    for file in SMOLLM2.iterdir():
        (folder / file.name).symlink_to(file)
    write_ranker(folder, encoder.name)
    tower.to_file(encoder.name).write(folder)
    return folder


def titles(count: int, seed: int = 0) -> list[str]:
    """Different titles of words that the tiny encoder knows."""
    random = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(random.choice(WORDS[5:], random.integers(2, 9)))] = None
    return list(found)
