"""Recipes against plain definitions of them, row by row."""

from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.support.models import MIND
from training.data import samples
from training.data.catalogue import StoryIds, merge_stories
from training.data.mind import read_behaviors, read_news
from training.data.options import ORIGINAL_LIST
from training.errors import TrainingError

SPLITS = ("train", "val", "test")


def read_all(history: int = 50) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(news, all impressions with their split)."""
    news = merge_stories([read_news(MIND / split, split, 0)[0] for split in SPLITS])
    ids = StoryIds(news["id"])
    parts = [read_behaviors(MIND / split, split, ids, history, 0)[0] for split in SPLITS]
    named = (rows.with_columns(split=pl.lit(s)) for s, rows in zip(SPLITS, parts, strict=True))
    return news, pl.concat(list(named))


NEWS, ALL = read_all()
TRAIN = ALL.filter(split="train")


def sample_plainly(folder: Path) -> dict[str, tuple[list[str], list[str], list[str], str, bool]]:
    """The original project's README: (history, liked, disliked, target, clicked) by impression."""
    found = {}
    for line in (folder / "behaviors.tsv").read_text(encoding="utf-8").splitlines():
        impression, _, _, history, shown = line.split("\t")
        liked, disliked = [], []
        entries = shown.split()
        for entry in entries[:-1]:
            story, label = entry.split("-")
            if label == "1":
                liked.append(story)
            else:
                disliked.append(story)
        target, label = entries[-1].split("-")
        past = history.split()[-3:]
        found[impression] = (past, liked[:3], disliked[:3], target, label == "1")
    return found


def original(split: str, seed: int = 0) -> pl.DataFrame:
    _, rows = read_all(ORIGINAL_LIST)
    return samples.sample_original(rows.filter(split=split), seed)


@pytest.mark.parametrize("split", ["train", "val"])
def test_original_is_the_readmes_sampling(split: str) -> None:
    expected = sample_plainly(MIND / split)
    rows = original(split)
    assert tuple(rows.columns) == samples.COLUMNS
    for row in rows.iter_rows(named=True):
        lists = [
            [NEWS["id"][index] for index in row[name]]
            for name in ("history", "liked", "disliked", "candidates")
        ]
        history, liked, disliked, target, clicked = expected[row["impression"]]
        assert lists == [history, liked, disliked, [target]]
        assert row["clicked"] == [clicked]
    labels = Counter(clicked for *_, clicked in expected.values())
    assert Counter(rows["clicked"].explode()) == dict.fromkeys((True, False), min(labels.values()))


def test_original_takes_the_first_three_of_each_before_the_target() -> None:
    shown = [11, 20, 13, 22, 15, 24, 17, 26, 19]  # clicked are 5 to 9, not clicked 10 to 13
    two = pl.DataFrame({"shown": [shown, [*shown, 28]]}, schema={"shown": pl.List(pl.UInt32)})
    rows = samples.sample_original(TRAIN.head(2).drop("shown").hstack(two), 0)
    assert rows["liked"].to_list() == [[5, 6, 7], [5, 6, 7]]
    assert rows["disliked"].to_list() == [[10, 11, 12], [10, 11, 12]]
    assert rows["candidates"].to_list() == [[9], [14]]


@pytest.mark.parametrize("flags", ["yynynyyyy", "nnynynnnn", "ynyn"])
def test_balance_cuts_the_larger_class(flags: str) -> None:
    chosen = samples.balance(np.array([flag == "y" for flag in flags]), 0)
    kept = [flags[row] for row in chosen]
    assert kept.count("y") == kept.count("n") == min(flags.count("y"), flags.count("n"))
    assert chosen.tolist() == sorted(set(chosen.tolist()))


def test_original_keeps_a_reader_without_history() -> None:
    alone = ALL.filter(pl.col("history").list.len() == 0, split="train")
    odd = pl.col("shown").list.last() % 2 == 1
    pair = pl.concat([alone.filter(~odd).head(1), TRAIN.filter(odd).head(1)])
    assert samples.sample_original(pair, 0)["history"][0].to_list() == []


def test_original_is_balanced_by_the_seed() -> None:
    assert original("train").equals(original("train"))
    assert not original("train").equals(original("train", seed=1))
    numbers = [TRAIN["impression"].to_list().index(i) for i in original("train")["impression"]]
    assert numbers == sorted(numbers)  # the file's order


def test_original_without_labels_has_candidates_only() -> None:
    rows = original("test")
    assert rows["clicked"].null_count() == len(rows) == 12
    assert rows["liked"].list.len().sum() == rows["disliked"].list.len().sum() == 0
    assert all(len(candidates) > 1 for candidates in rows["candidates"])


def temporal(
    rows: pl.DataFrame = ALL,
    liked: int = 20,
    disliked: int = 20,
    negatives: int = 4,
    history_samples: int = 0,
    seed: int = 0,
) -> dict[str, pl.DataFrame]:
    return samples.sample_temporal(
        samples.add_earlier(rows, liked, disliked),
        negatives=negatives,
        history_samples=history_samples,
        seed=seed,
    )


@pytest.mark.parametrize("count", [1, 3, 100])
def test_clicks_of_histories_teach_what_followed(count: int) -> None:
    plain = temporal()["train"]
    train = temporal(history_samples=count)["train"]
    assert train[: len(plain)].equals(plain)  # the impressions are the same, and come first
    added = train[len(plain) :]
    source = ALL.filter(split="train").sort("time").unique("user", keep="last")
    histories = {row["user"]: row["history"] for row in source.rows(named=True)}
    everyone = {story for history in histories.values() for story in history}
    seen: dict[str, set[int]] = {}
    for row in added.rows(named=True):
        history, place = histories[row["user"]], len(row["history"])
        assert row["history"] == history[:place]  # only what was clicked before
        assert place >= samples.MIN_EARLIER_CLICKS
        assert row["candidates"][0] == history[place]
        assert row["clicked"] == [True] + [False] * (len(row["candidates"]) - 1)
        assert set(row["candidates"][1:]) <= everyone - set(history)
        assert len(row["candidates"]) <= 5
        assert row["liked"] == row["disliked"] == []
        seen.setdefault(row["user"], set()).add(place)
    for user, history in histories.items():
        possible = max(len(history) - samples.MIN_EARLIER_CLICKS, 0)
        assert len(seen.get(user, ())) == min(count, possible)
    assert train.equals(temporal(history_samples=count)["train"])
    assert added["impression"].n_unique() == len(added)


def earlier_plainly(row: dict[str, object], clicked: int, keep: int) -> list[int]:
    """By definition: go through the reader's earlier impressions in order of time."""
    own = [r for r in ALL.rows(named=True) if r["user"] == row["user"] and r["labelled"]]
    before = sorted((r for r in own if r["time"] < row["time"]), key=lambda r: r["time"])
    stories = [code // 2 for r in before for code in r["shown"] if code % 2 == clicked]
    return stories[-keep:] if keep else []


@pytest.mark.parametrize(("liked", "disliked"), [(20, 20), (2, 5), (1, 0), (0, 1)])
def test_temporal_knows_only_strictly_earlier_impressions(liked: int, disliked: int) -> None:
    longest = 0
    for split, rows in temporal(liked=liked, disliked=disliked).items():
        source = {r["impression"]: r for r in ALL.filter(split=split).rows(named=True)}
        for row in rows.rows(named=True):
            assert row["liked"] == earlier_plainly(source[row["impression"]], 1, liked)
            assert row["disliked"] == earlier_plainly(source[row["impression"]], 0, disliked)
            longest = max(longest, len(row["liked"]))
    assert longest >= min(liked, 6)


@pytest.mark.parametrize("at_once", [1, 7, 10_000])
def test_the_log_holds_all_impressions_as_they_were_shown_in_the_order_of_time(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "LOG_ROWS", at_once)
    rows = samples.add_earlier(ALL, 20, 20)
    parts = list(samples.in_order_of_time(rows))
    assert max(map(len, parts)) == min(at_once, len(ALL))
    log = pl.concat(parts)
    assert log.equals(samples.natural(rows.sort("time", maintain_order=True)))
    assert log["time"].is_sorted()
    assert len(log) == len(ALL)
    shown = {(r["split"], r["impression"]): r["shown"] for r in ALL.rows(named=True)}
    sizes = sorted(len(codes) for codes in shown.values())
    assert sorted(log["candidates"].list.len().to_list()) == sizes


def test_impressions_of_one_moment_do_not_know_of_each_other() -> None:
    same = TRAIN.filter(pl.struct("user", "time").is_duplicated())
    assert len(same) == 2  # the fixture has one such pair
    rows = temporal()["train"].filter(pl.col("impression").is_in(same["impression"].to_list()))
    assert rows["liked"][0].to_list() == rows["liked"][1].to_list()


def test_no_label_reaches_an_impression_of_the_same_or_an_earlier_time() -> None:
    moment = TRAIN["time"].sort()[25]
    flipped = pl.col("shown").list.eval(pl.element() ^ 1)
    late = pl.col("time") >= moment
    changed = ALL.with_columns(shown=pl.when(late, "labelled").then(flipped).otherwise("shown"))
    known = ("impression", "history", "liked", "disliked")
    for split in ("train", "val"):
        before = samples.add_earlier(ALL, 20, 20).filter(pl.col("time") <= moment, split=split)
        after = samples.add_earlier(changed, 20, 20).filter(pl.col("time") <= moment, split=split)
        assert before.select(known).equals(after.select(known))
    assert len(before) == 0
    later = [samples.add_earlier(rows, 20, 20)["liked"] for rows in (ALL, changed)]
    assert not later[0].equals(later[1])


def test_validation_and_test_keep_natural_candidates() -> None:
    splits = temporal()
    for split in ("val", "test"):
        source = ALL.filter(split=split)
        codes = source["shown"].to_list()
        assert splits[split]["impression"].equals(source["impression"])
        assert splits[split]["candidates"].to_list() == [[c // 2 for c in row] for row in codes]
    clicked = [[c % 2 == 1 for c in row] for row in ALL.filter(split="val")["shown"]]
    assert splits["val"]["clicked"].to_list() == clicked
    assert splits["test"]["clicked"].null_count() == 12


@pytest.mark.parametrize("negatives", [1, 3, 100])
def test_train_has_all_clicks_and_sampled_others(negatives: int) -> None:
    source = {r["impression"]: r["shown"] for r in TRAIN.rows(named=True)}
    rows = temporal(negatives=negatives)["train"]
    for row in rows.rows(named=True):
        shown = source.pop(row["impression"])
        codes = [2 * c + k for c, k in zip(row["candidates"], row["clicked"], strict=True)]
        clicks = [code for code in shown if code % 2]
        assert [code for code in codes if code % 2] == clicks
        others = min(negatives * len(clicks), len(shown) - len(clicks))
        assert len(codes) == len(clicks) + others
        places = [shown.index(code) for code in codes]
        assert places == sorted(set(places))  # none twice, in the order shown
    assert all(code % 2 == 0 for shown in source.values() for code in shown)
    assert len(source) == 1  # the fixture's one impression without a click


def test_negatives_follow_the_seed_and_are_uniform() -> None:
    shown = pl.Series([[1, 2, 4, 6, 8, 10]] * 20_000, dtype=pl.List(pl.UInt32))
    first = samples.sample_negatives(shown, 2, 0)
    assert first.equals(samples.sample_negatives(shown, 2, 0))
    assert not first.equals(samples.sample_negatives(shown, 2, 1))
    counts = np.bincount(first["candidates"].explode().to_numpy(), minlength=6)
    assert counts[0] == 20_000
    # Each of five is drawn with p = 0.4: a standard deviation is 69.
    assert np.all(np.abs(counts[1:] - 8_000) < 5 * 69)
    pairs = Counter(tuple(row) for row in first["candidates"].to_list())
    assert len(pairs) == 10


def test_slices_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = samples.add_earlier(ALL, 20, 20)
    monkeypatch.setattr(samples, "SLICE_ROWS", 7)
    assert samples.add_earlier(ALL, 20, 20).equals(whole)
    clicked = TRAIN.filter(pl.col("shown").list.eval(samples.CLICKED).list.any())["shown"]
    rows = samples.sample_negatives(clicked, 2, 0)["candidates"].to_list()
    assert len(rows) == len(clicked) == 49
    for row, shown in zip(rows, clicked, strict=True):
        assert set(row) <= {code // 2 for code in shown}


def test_split_by_time() -> None:
    early, late = samples.split_by_time(TRAIN, None, 1)
    assert early["time"].max() < datetime(2019, 11, 14) <= late["time"].min()  # type: ignore[operator]
    assert len(early) + len(late) == len(TRAIN)
    assert len(samples.split_by_time(TRAIN, None, 2)[1]) > len(late)
    start = datetime(2019, 11, 12, 12)
    early, late = samples.split_by_time(TRAIN, start, 1)
    assert early["time"].max() < start <= late["time"].min()  # type: ignore[operator]
    start = TRAIN["time"].sort()[30]  # of an impression itself: it validates
    early, late = samples.split_by_time(TRAIN, start, 1)
    assert early["time"].max() < start == late["time"].min()
    for outside in (datetime(2019, 11, 1), datetime(2020, 1, 1)):
        with pytest.raises(TrainingError, match="set --val-from"):
            samples.split_by_time(TRAIN, outside, 1)
    with pytest.raises(TrainingError, match="set --val-from"):
        samples.split_by_time(TRAIN, None, 5)
    with pytest.raises(TrainingError, match="no usable impressions"):
        samples.split_by_time(TRAIN.clear(), None, 1)


def test_chosen_pairs_are_whole_impressions() -> None:
    rows = temporal()["val"]
    sizes = rows["candidates"].list.len()
    chosen = samples.choose_pairs(rows, 60, 0)
    assert 60 - max(sizes.to_list()) < len(chosen["candidates"].explode()) <= 60
    assert rows.filter(pl.col("impression").is_in(chosen["impression"].to_list())).equals(chosen)
    assert samples.choose_pairs(rows, 0, 0).is_empty()
    for everything in (-1, sum(sizes.to_list())):
        assert samples.choose_pairs(rows, everything, 0).equals(rows)
