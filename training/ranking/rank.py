"""From a prepared log and honest scores to a ranker that is served."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from app.files import write_whole
from app.ranker.features import NAMES, TEXT, VERSION, Floats
from app.ranker.ranker import (
    DESCRIPTION_FILE,
    FIRST_STAGE_FILE,
    RANKER_FILE,
    Description,
    describe_trees,
    spreads,
)
from app.signals.counters import HalfLives
from training.data.prepared import PreparedData
from training.errors import TrainingError
from training.metrics import Flags
from training.progress import say
from training.ranking import figures
from training.ranking.fit import FitOptions, Fitted, Kind, choose, fit, fit_first_stage, platt
from training.ranking.log import KEY, Log
from training.ranking.moments import Catalogue, Replay
from training.ranking.options import RankCommand
from training.ranking.rows import (
    TOWER,
    Rows,
    collect,
    has_text,
    place_scores,
    read_scores,
    without_live,
    without_text,
)
from training.ranking.shortlists import measure_shortlists
from training.ranking.vectors import story_vectors

Scores = Mapping[str, Floats]
"""By impression; see training.ranking.rows.read_scores."""
FIGURES_FILE = "ranker-figures.txt"
MEASURED = 20_000
"""How many impressions are measured on at most, spread evenly over those of the test."""


def rank(options: RankCommand) -> str:
    """Fit a ranker, measure it on impressions that it has not seen, and write it. Returns what was
    measured, as text. Raises TrainingError."""
    data = PreparedData(options.data)
    rows = read_rows(data, options)
    early = rows.before(options.test_from)
    fit_options = FitOptions(dropout=options.dropout, threads=options.threads, seed=options.seed)
    trials = choose(taught_by(rows.take(early)), fit_options)
    kind = trials[0].kind
    texts = ["chosen on the latest quarter of the impressions before the test:"]
    texts += [f"  {t.kind}: AUC {t.auc:.4f}, nDCG@10 {t.ndcg_at_10:.4f}" for t in trials]
    pair = fit_pair(rows.take(early), kind, fit_options)
    measured: dict[str, float] = {}
    if options.test_from is not None:
        test = rows.take(evenly(~early & has_text(rows), MEASURED))
        judged = judge(test, *pair)
        report = figures.report(test, judged)
        texts.append(str(report))
        texts.append("a shortlist of so many by the first stage, against judging all:")
        curve = measure_shortlists(test, judged[figures.ALL], judged[figures.FIRST_STAGE])
        texts += map(str, curve)
        if options.within is not None:
            part = test.take(is_within(test, options.within))
            texts.append(f"of them in {options.within}: {figures.report(part, judge(part, *pair))}")
        measured = {
            f"{line.name}: {name}": round(estimate.value, 4)
            for line in report.lines
            for name, estimate in line.figures.items()
            if np.isfinite(estimate.value)
        }
    if options.refit:
        early[:] = True
        pair = fit_pair(rows, kind, fit_options)
    until = rows.times[early].max().item()
    write(options, data, rows.take(has_text(rows)), pair, measured, until)
    text = "\n".join(texts)
    write_whole(options.output / FIGURES_FILE, text + "\n")
    return text


def fit_pair(rows: Rows, kind: Kind, options: FitOptions) -> tuple[Fitted, Fitted]:
    """The ranker and its first stage, which learns from all impressions."""
    return fit(taught_by(rows), kind, options), fit_first_stage(rows, kind, options)


def taught_by(rows: Rows) -> Rows:
    """What the ranker learns from: all impressions, if the language model has scored less than half
    of them; where it has scored more, the others did not help (docs/ranker.md)."""
    with_text = has_text(rows)
    return rows.take(with_text) if 2 * with_text.sum() >= len(with_text) else rows


def judge(rows: Rows, full: Fitted, first: Fitted) -> dict[str, Floats]:
    """Each ranker's scores for the test impressions, by name."""
    fresh = without_live(rows.matrix)
    return {
        figures.TEXT_ALONE: figures.column(rows, "text"),
        figures.RATE_ALONE: figures.column(rows, "rate"),
        "tower alone": figures.column(rows, "tower"),
        figures.FIRST_STAGE: first.log_odds(without_text(rows.matrix)),
        figures.ALL: full.log_odds(rows.matrix),
        figures.FRESH: full.log_odds(fresh),
        "trees without text, no live figures": first.log_odds(without_text(fresh)),
    }


def is_within(rows: Rows, folder: Path) -> Flags:
    """Which impressions are in a prepared folder's log: [impressions]."""
    names = set(PreparedData(folder).log().select(KEY).collect().to_series())
    return np.array([name in names for name in rows.ids])


def read_rows(data: PreparedData, options: RankCommand) -> Rows:
    """The impressions to learn from and to measure on, with all features."""
    log = Log(data.log())
    texts = {file: read_scores(file) for file in options.text}
    towers = {file: read_scores(file) for file in options.tower}
    named = is_named(keys := log.keys(), texts.values()), is_named(keys, towers.values())
    kept = choose_impressions(log, *named, options.impressions, options.test_from)
    say(f"replaying {len(log):,} impressions, {kept.sum():,} of them to learn from or measure on")
    catalogue = read_catalogue(data, log, options.encoder)
    rows = collect(Replay(catalogue, half_lives(options)), log, kept)
    for file, scores in towers.items():
        say(f"{file}: {place_scores(rows, scores, TOWER):,} impressions")
    for file, scores in texts.items():
        place_text(rows, file, scores, options.test_from)
    if not has_text(rows).any():
        raise TrainingError("no impression has the language model's score: give --text FILE")
    return rows


def read_catalogue(data: PreparedData, log: Log, encoder: Path | None) -> Catalogue:
    """All stories, with vectors if there is an encoder."""
    categories = [story.category for story in data.stories]
    if encoder is None:
        return Catalogue(categories, None)
    titles = [story.title for story in data.stories]
    used = log.used_stories(len(titles))
    return Catalogue(categories, story_vectors(data.folder, encoder, titles, used.tolist()))


def choose_impressions(
    log: Log, judged: Flags, towered: Flags, most: int, test_from: datetime | None
) -> Flags:
    """Which impressions with labels get features, [impressions]: at most `most` before the test,
    and as many from then on. Those that the language model has scored go first, then those that a
    tower has, then the newest.

    judged, towered: which the language model and which a tower has scored, [impressions].
    """
    late = np.zeros(len(log), np.bool_)
    if test_from is not None:
        late = log.times.view("datetime64[ms]") >= np.datetime64(test_from)
    kept = np.zeros(len(log), np.bool_)
    for side in (late, ~late):
        places = np.flatnonzero(log.labelled & side)
        order = np.argsort(2 * judged[places] + towered[places], kind="stable")
        kept[places[order][-most:]] = True
    return kept


def is_named(keys: pl.Series, files: Iterable[Scores]) -> Flags:
    """Which impressions have a score in one of the files, [impressions]."""
    names = [name for scores in files for name in scores]
    found: Flags = keys.is_in(pl.Series(names, dtype=pl.String).implode()).to_numpy()
    return found


def evenly(chosen: Flags, most: int) -> Flags:
    """At most so many of the chosen, spread evenly over them."""
    places = np.flatnonzero(chosen)
    number = min(most, len(places))
    kept = np.zeros(len(chosen), np.bool_)
    kept[places[np.arange(number) * len(places) // max(number, 1)]] = True
    return kept


def half_lives(options: RankCommand) -> HalfLives:
    """Those of the live figures, in seconds."""
    hours = options.half_life_hours
    return HalfLives(slow_s=None if hours is None else hours * 3600)


def place_text(rows: Rows, file: Path, scores: Scores, test_from: datetime | None) -> None:
    """Calibrate one model's scores on its impressions before the test, and place them."""
    placed = place_scores(rows, scores, TEXT)
    own = np.array([name in scores for name in rows.ids])
    known = np.repeat(own & rows.before(test_from), rows.sizes)
    if not rows.clicked[known].any():
        raise TrainingError(f"{file} scores no clicked story before the test: can't calibrate it")
    slope, intercept = platt(rows.matrix[known, TEXT].astype(np.float64), rows.clicked[known])
    flat = np.repeat(own, rows.sizes)
    rows.matrix[flat, TEXT] = slope * rows.matrix[flat, TEXT] + intercept
    say(f"{file}: {placed:,} impressions; log-odds = {slope:.3f} x {intercept:+.3f}")


def write(
    options: RankCommand,
    data: PreparedData,
    rows: Rows,
    pair: tuple[Fitted, Fitted],
    measured: dict[str, float],
    learned_until: datetime,
) -> None:
    """Write the three files, the description last, since it makes the others count."""
    options.output.mkdir(parents=True, exist_ok=True)
    described = []
    for name, fitted in zip((RANKER_FILE, FIRST_STAGE_FILE), pair, strict=True):
        write_whole(options.output / name, fitted.booster.model_to_string())
        described.append(describe_trees(options.output / name, fitted.slope, fitted.intercept))
    lives = half_lives(options)
    description = Description(
        version=VERSION,
        features=NAMES,
        encoder=options.encoder.name if options.encoder else None,
        tower=bool(options.tower),
        objective=str(pair[0].kind),
        half_life_s=lives.slow_s,
        recent_half_life_s=lives.recent_s,
        ranker=described[0],
        first_stage=described[1],
        spreads=spreads(rows.matrix),
        data_hash=data.data_hash,
        learned_until=learned_until,
        figures=measured,
    )
    write_whole(options.output / DESCRIPTION_FILE, description.model_dump_json(indent=1) + "\n")
