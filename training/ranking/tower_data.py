"""From a prepared folder to a tower's file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from app.likeness.tower import HISTORY, TOWER_FILE
from training.data.prepared import PreparedData
from training.errors import TrainingError
from training.ranking.log import TIME_FORMAT
from training.ranking.options import TowerCommand
from training.ranking.tower_training import NOBODY, Clicks, Ints, TowerOptions, train_tower


def make_tower(options: TowerCommand) -> Path:
    """Train on the training split; returns the file. Raises TrainingError."""
    data = PreparedData(options.data)
    rows = pl.read_parquet(options.data / "train.parquet")
    clicks = read_clicks(rows)
    if not any((~flags).any() for flags in clicks.clicked):
        raise TrainingError(f"{options.data}: no click was preferred to another story")
    titles = [story.title for story in data.stories]
    tower = train_tower(titles, clicks, options.encoder, TowerOptions(seed=options.seed))
    options.output.mkdir(parents=True, exist_ok=True)
    until = rows["time"].dt.strftime(TIME_FORMAT).max()
    replace(tower.to_file(options.encoder.name), learned_until=str(until)).write(options.output)
    return options.output / TOWER_FILE


def read_clicks(rows: pl.DataFrame) -> Clicks:
    """What the tower learns from, out of a split's rows."""
    history = np.full((len(rows), HISTORY), NOBODY, np.int64)
    for number, titles in enumerate(rows["history"]):
        kept = np.asarray(titles.to_list()[-HISTORY:], np.int64)
        history[number, HISTORY - len(kept) :] = kept
    shown: list[Ints] = [np.asarray(row, np.int64) for row in rows["candidates"].to_list()]
    clicked = [np.asarray(row, np.bool_) for row in rows["clicked"].to_list()]
    return Clicks(history, shown, clicked)
