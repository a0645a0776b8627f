"""From a prepared log and honest scores to a ranker that is served."""

from datetime import datetime
from pathlib import Path

import numpy as np

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
from training.ranking.fit import FitOptions, Fitted, Kind, choose, fit, platt, without_text
from training.ranking.moments import Catalogue, Replay
from training.ranking.options import RankCommand
from training.ranking.rows import (
    TOWER,
    Rows,
    collect,
    has_text,
    place_scores,
    read_scores,
)
from training.ranking.score import keys_of
from training.ranking.vectors import story_vectors, used_stories

FIGURES_FILE = "ranker-figures.txt"


def rank(options: RankCommand) -> str:
    """Fit a ranker, measure it on impressions that it has not seen, and write it. Returns what was
    measured, as text. Raises TrainingError."""
    data = PreparedData(options.data)
    rows = read_rows(data, options)
    early = rows.before(options.test_from)
    known = rows.take(early & has_text(rows))
    fit_options = FitOptions(dropout=options.dropout, threads=options.threads, seed=options.seed)
    trials = choose(known, fit_options)
    kind = trials[0].kind
    texts = ["chosen on the latest quarter of the impressions before the test:"]
    texts += [f"  {t.kind}: AUC {t.auc:.4f}, nDCG@10 {t.ndcg_at_10:.4f}" for t in trials]
    pair = fit_pair(rows, early, kind, fit_options)
    measured: dict[str, float] = {}
    if options.test_from is not None:
        test = rows.take(~early & has_text(rows))
        report = figures.report(test, judge(test, *pair))
        texts.append(str(report))
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
        pair = fit_pair(rows, np.ones(len(rows.ids), np.bool_), kind, fit_options)
    write(options, data, rows.take(has_text(rows)), pair, measured)
    text = "\n".join(texts)
    write_whole(options.output / FIGURES_FILE, text + "\n")
    return text


def fit_pair(rows: Rows, chosen: Flags, kind: Kind, options: FitOptions) -> tuple[Fitted, Fitted]:
    """The ranker, on the chosen impressions that have the language model's score, and the first
    stage, on all of the chosen ones that have the tower's (all, if none has)."""
    with_text = rows.take(chosen & has_text(rows))
    starts = np.cumsum(rows.sizes) - rows.sizes
    towered = ~np.isnan(rows.matrix[starts, TOWER])
    first = rows.take(chosen & towered if (chosen & towered).any() else chosen)
    return (
        fit(with_text, with_text.matrix, kind, options),
        fit(first, without_text(first.matrix), kind, options),
    )


def judge(rows: Rows, full: Fitted, first: Fitted) -> dict[str, Floats]:
    """Each ranker's scores for the test impressions, by name."""
    return {
        figures.TEXT_ALONE: rows.matrix[:, TEXT],
        figures.RATE_ALONE: figures.column(rows, "rate"),
        "tower alone": figures.column(rows, "tower"),
        figures.FIRST_STAGE: first.log_odds(without_text(rows.matrix)),
        figures.ALL: full.log_odds(rows.matrix),
        figures.FRESH: full.log_odds(rows.fresh),
        "trees without text, no live figures": first.log_odds(without_text(rows.fresh)),
    }


def is_within(rows: Rows, folder: Path) -> Flags:
    """Which impressions are in a prepared folder's log: [impressions]."""
    names = set(keys_of(PreparedData(folder).log()))
    return np.array([name in names for name in rows.ids])


def read_rows(data: PreparedData, options: RankCommand) -> Rows:
    """The log's impressions with all features."""
    log = data.log()
    titles = [story.title for story in data.stories]
    vectors = None
    if options.encoder is not None:
        vectors = story_vectors(options.data, options.encoder, titles, used_stories(log))
    categories = [story.category for story in data.stories]
    say(f"replaying {len(log):,} impressions")
    replay = Replay(Catalogue(data.story_ids, categories, vectors), half_lives(options))
    rows = collect(replay.moments(log))
    for file in options.tower:
        say(f"{file}: {place_scores(rows, read_scores(file), TOWER):,} impressions")
    for file in options.text:
        place_text(rows, file, options.test_from)
    if not has_text(rows).any():
        raise TrainingError("no impression has the language model's score: give --text FILE")
    return rows


def half_lives(options: RankCommand) -> HalfLives:
    """Those of the live figures, in seconds."""
    hours = options.half_life_hours
    return HalfLives(slow_s=None if hours is None else hours * 3600)


def place_text(rows: Rows, file: Path, test_from: datetime | None) -> None:
    """Calibrate one model's scores on its impressions before the test, and place them."""
    scores = read_scores(file)
    placed = place_scores(rows, scores, TEXT)
    own = np.array([name in scores for name in rows.ids])
    known = rows.take(own & rows.before(test_from))
    if not known.clicked.any():
        raise TrainingError(f"{file} scores no clicked story before the test: can't calibrate it")
    slope, intercept = platt(known.matrix[:, TEXT], known.clicked)
    flat = np.repeat(own, rows.sizes)
    for matrix in (rows.matrix, rows.fresh):
        matrix[flat, TEXT] = slope * matrix[flat, TEXT] + intercept
    say(f"{file}: {placed:,} impressions; log-odds = {slope:.3f} x {intercept:+.3f}")


def write(
    options: RankCommand,
    data: PreparedData,
    rows: Rows,
    pair: tuple[Fitted, Fitted],
    measured: dict[str, float],
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
        figures=measured,
    )
    write_whole(options.output / DESCRIPTION_FILE, description.model_dump_json(indent=1) + "\n")
