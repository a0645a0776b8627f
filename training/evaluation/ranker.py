"""How well a model's ranker orders the measured impressions, each by what was known at its moment.

Nothing is measured on impressions that the trees or their tower may have learned from: all must be
later than the last moment that ranker.json and tower.npz name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.likeness.tower import TowerError, read_tower
from app.ranker.features import TEXT, Floats
from app.ranker.ranker import Description, Ranker, RankerError, load_ranker
from app.scoring.profile import Profile
from app.signals.counters import HalfLives
from training import metrics
from training.data.prepared import LOG_FILE, PreparedData
from training.errors import TrainingError
from training.evaluation.backends.base import Answers
from training.evaluation.comparison import as_figures
from training.evaluation.options import EvaluateOptions
from training.evaluation.quality import Questions
from training.evaluation.record import RankerLine, RankerResult
from training.metrics import Ratio
from training.progress import say
from training.ranking import figures
from training.ranking.log import KEY, Log
from training.ranking.moments import Replay
from training.ranking.rank import read_catalogue
from training.ranking.rows import TOWER, Rows, collect, place_scores, without_text
from training.ranking.score import score_by_tower

ENCODERS = Path("models")
"""Where a ranker's encoder is looked for by its name."""
TINY = float(np.finfo(np.float64).eps)


class RefusedError(Exception):
    """Why a ranker is not measured."""


@dataclass(frozen=True, slots=True)
class Measured:
    """ratios: of the order by all that is known, [impressions] in the order of the questions, and
    the order's calibration error; both None where the ranker was refused."""

    result: RankerResult
    ratios: dict[str, Ratio] | None = None
    ece: float | None = None


def measure_ranker(
    folder: Path,
    profile: Profile | None,
    data: PreparedData,
    questions: Questions,
    answers: Sequence[Answers],
    options: EvaluateOptions,
) -> Measured | None:
    """None for a model without a ranker. folder, profile: the model's. answers: of the language
    model. Raises TrainingError for a ranker that can't be read."""
    try:
        ranker = load_ranker(folder)
        if ranker is None:
            return None
        say(f"{folder}: measuring its ranker")
        check(data, options)
        times, keys = read_keys(data, questions, options)
        until = last_learned(folder, ranker.description)
        check_times(times, until)
        rows = read_rows(folder, ranker.description, data, keys, options)
        place_text(rows, keys, questions, answers)
        known = notes(folder, profile, data, options)
        log_odds = order(rows, ranker)
        found = {name: figures.measure(rows, scores, name) for name, scores in log_odds.items()}
        number = {key: place for place, key in enumerate(keys)}
        places = np.array([number[name] for name in rows.ids])
        error = figures.ece(rows, log_odds[figures.ALL], figures.ALL)
        ratios = {name: moved(one, places) for name, one in found[figures.ALL].items()}
        return Measured(describe(rows, log_odds, found, known, options), ratios, error)
    except RefusedError as error:
        say(f"{folder}: its ranker is not measured: {error}")
        return Measured(RankerResult(refused=str(error)))
    except (RankerError, TowerError) as error:
        raise TrainingError(str(error)) from None


def check(data: PreparedData, options: EvaluateOptions) -> None:
    """Raise RefusedError where rankers can't be measured at all."""
    if options.backend == "http":
        raise RefusedError("the service's answers may be the ranker's own; use another --backend")
    if not (data.folder / LOG_FILE).is_file():
        raise RefusedError(f"{data.folder} has no {LOG_FILE}: prepare it again")
    if options.split == "train":
        raise RefusedError("the split train holds a sample of what was shown; use --split val")


def read_keys(
    data: PreparedData, questions: Questions, options: EvaluateOptions
) -> tuple[list[datetime], list[str]]:
    """The times and the log's keys of the measured impressions, in their order."""
    rows = data.rows_evenly(options.split, options.limit or len(questions.impressions))
    return rows["time"].to_list(), rows.select(KEY).to_series().to_list()


def last_learned(folder: Path, description: Description) -> datetime:
    """The last moment that trees or tower learned from. Raises RefusedError if that is unknown."""
    if description.learned_until is None:
        raise RefusedError(
            "its ranker.json does not say until when it learned, so that it may have learned from"
            " these impressions; fit it again with python -m training rank"
        )
    tower = read_tower(folder)
    known = tower.learned_until if tower is not None and description.tower else ""
    ends = [description.learned_until, *([datetime.fromisoformat(known)] if known else [])]
    return max(ends)


def check_times(times: Sequence[datetime], until: datetime) -> None:
    """Raise RefusedError unless all impressions are later than what was learned from."""
    early = sum(time <= until for time in times)
    if early:
        raise RefusedError(
            f"it learned from impressions until {until}, and {early:,} of the {len(times):,}"
            " measured here are not later"
        )


def read_rows(
    folder: Path,
    description: Description,
    data: PreparedData,
    keys: Sequence[str],
    options: EvaluateOptions,
) -> Rows:
    """The impressions with all features but the text's."""
    log = Log(data.log())
    kept = log.keys().is_in(pl.Series(keys, dtype=pl.String).implode()).to_numpy() & log.labelled
    if kept.sum() != len(keys):
        raise RefusedError(f"{LOG_FILE} holds {kept.sum():,} of the {len(keys):,} impressions")
    encoder = find_encoder(description, options)
    lives = HalfLives(description.half_life_s, description.recent_half_life_s)
    catalogue = read_catalogue(data, log, encoder if description.encoder else None)
    rows = collect(Replay(catalogue, lives), log, kept)
    if description.tower and encoder is not None:
        own = data.log().filter(KEY.is_in(pl.Series(keys).implode())).collect()
        scores = dict(score_by_tower(data, own, folder, encoder))
        place_scores(rows, {key: np.array(row) for key, row in scores.items()}, TOWER)
    return rows


def find_encoder(description: Description, options: EvaluateOptions) -> Path | None:
    """The sentence encoder's folder; None for a ranker without one."""
    if description.encoder is None:
        return None
    folder = options.encoder or ENCODERS / description.encoder
    if folder.name != description.encoder or not folder.is_dir():
        raise RefusedError(f"it needs the sentence encoder {description.encoder}: give --encoder")
    return folder


def place_text(
    rows: Rows, keys: Sequence[str], questions: Questions, answers: Sequence[Answers]
) -> None:
    """Give the rows, which are in the order of time, the language model's log-odds."""
    number = {key: place for place, key in enumerate(keys)}
    order = [number[key] for key in rows.ids]
    clicked = np.concatenate([questions.clicked[place] for place in order])
    if not np.array_equal(clicked, rows.clicked):
        raise RefusedError(f"{LOG_FILE} holds other candidates than the split")
    chance = np.concatenate([answers[place].probability for place in order])
    chance = np.clip(chance, TINY, 1 - TINY)
    rows.matrix[:, TEXT] = np.log(chance / (1 - chance))


def notes(
    folder: Path, profile: Profile | None, data: PreparedData, options: EvaluateOptions
) -> list[str]:
    """What is not known of the parts, or is not quite as it should be."""
    found = []
    tower = read_tower(folder)
    if tower is not None and not tower.learned_until:
        found.append("Its tower does not say until when it learned.")
    if profile is None or profile.data_hash != data.data_hash:
        found.append(
            "The language model learned from other data, perhaps from these impressions too."
        )
    elif options.split == "val":
        found.append("The language model's calibration may be fitted on impressions of val.")
    return found


def order(rows: Rows, ranker: Ranker) -> dict[str, Floats]:
    """The log-odds of each way to order, by name."""
    return {
        figures.TEXT_ALONE: figures.column(rows, "text"),
        figures.RATE_ALONE: figures.column(rows, "rate"),
        figures.FIRST_STAGE: ranker.first_stage.log_odds(without_text(rows.matrix)),
        figures.ALL: ranker.full.log_odds(rows.matrix),
    }


def moved(ratio: Ratio, places: NDArray[np.intp]) -> Ratio:
    """With each impression's sums at its place."""
    top, bottom = np.empty_like(ratio.top), np.empty_like(ratio.bottom)
    top[places], bottom[places] = ratio.top, ratio.bottom
    return Ratio(top, bottom)


def describe(
    rows: Rows,
    log_odds: Mapping[str, Floats],
    found: Mapping[str, Mapping[str, Ratio]],
    known: list[str],
    options: EvaluateOptions,
) -> RankerResult:
    """All figures, with intervals and differences from the language model alone."""
    resampling = (options.bootstrap, options.seed)
    base = found[figures.TEXT_ALONE]
    lines = [
        RankerLine(
            name=name,
            figures=as_figures(metrics.estimates(one, *resampling)),
            differences={}
            if one is base
            else as_figures(metrics.differences(one, base, *resampling)),
            ece=figures.ece(rows, log_odds[name], name),
        )
        for name, one in found.items()
    ]
    adds = metrics.differences(found[figures.ALL], found[figures.FIRST_STAGE], *resampling)
    return RankerResult(
        refused=None,
        notes=known,
        lines=lines,
        clicks=figures.clicks_by_known(rows),
        text_adds=as_figures(adds),
    )
