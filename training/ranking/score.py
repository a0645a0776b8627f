"""Scores of a log's impressions, by a language model or a tower that has not seen them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from app.likeness.encoder import SentenceEncoder
from app.likeness.folder import EncoderError
from app.likeness.tower import ReaderEncoder, TowerError, read_tower
from training.data.prepared import PreparedData, to_impressions
from training.errors import TrainingError
from training.progress import progress
from training.ranking.log import KEY, Log
from training.ranking.options import ScoreCommand
from training.ranking.rows import write_scores


def score_log(options: ScoreCommand) -> int:
    """Write the scores; returns of how many impressions. Raises TrainingError."""
    data = PreparedData(options.data)
    rows = data.log()
    if options.start is not None:
        rows = rows.filter(pl.col("time") >= options.start)
    if options.end is not None:
        rows = rows.filter(pl.col("time") < options.end)
    log = rows.collect()
    if log.is_empty():
        raise TrainingError(f"{options.data} has no impressions from --from until --until")
    if options.limit is not None and options.limit < len(log):
        log = log[np.arange(options.limit) * len(log) // options.limit]
    if options.tower is None:
        scores = dict(score_by_model(data, log, options))
    elif options.encoder is None:
        raise TrainingError("a tower needs its sentence encoder: give --encoder")
    else:
        scores = dict(score_by_tower(data, log, options.tower, options.encoder))
    write_scores(options.output, scores)
    return len(scores)


def keys_of(log: pl.DataFrame) -> list[str]:
    """The impressions' keys."""
    return log.select(KEY).to_series().to_list()


def score_by_model(
    data: PreparedData, log: pl.DataFrame, options: ScoreCommand
) -> Iterator[tuple[str, list[float]]]:
    """Each impression's log-odds, not calibrated."""
    from training.packed.scorer import score
    from training.tuning.methods import best_device, load_trained
    from training.tuning.sources import find_source

    assert options.model is not None
    source = find_source(options.model, options.base)
    impressions = list(to_impressions(log, data.stories, data.story_ids))
    with progress(f"loading {options.model}"):
        model = load_trained(options.model, source.base, device=best_device())
    found = score(model, source.builder(), impressions, options.batch_tokens, what="scores")
    for key, (log_yes, log_no) in zip(keys_of(log), found, strict=True):
        yield key, (log_yes - log_no).tolist()


def score_by_tower(
    data: PreparedData, log: pl.DataFrame, tower_folder: Path, encoder_folder: Path
) -> Iterator[tuple[str, list[float]]]:
    """Each impression's scores by the tower. Raises TrainingError."""
    try:
        tower = read_tower(tower_folder)
        if tower is None:
            raise TrainingError(f"{tower_folder} holds no tower")
        encoder = SentenceEncoder(encoder_folder, tower.tensors)
    except (TowerError, EncoderError) as error:
        raise TrainingError(str(error)) from None
    used = Log(log.lazy()).used_stories(len(data.stories)).tolist()
    vectors = encoder.embed([data.stories[index].title for index in used])
    place = {story: number for number, story in enumerate(used)}
    reader = ReaderEncoder(tower.tensors)
    rows = log.select("history", "candidates").iter_rows()
    for key, (history, candidates) in zip(keys_of(log), rows, strict=True):
        titles = vectors[[place[index] for index in history]]
        stories = vectors[[place[index] for index in candidates]]
        yield key, reader.scores(reader.reader(titles), stories).tolist()
