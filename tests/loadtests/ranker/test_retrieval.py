"""The commands that measure /recommend, at a small size."""

from datetime import datetime

import numpy as np
import pytest

from app.signals.live import LiveFigures, ShownStory
from loadtests.ranker.recall import Hits, Impression, Stories, choices
from loadtests.ranker.retrieval import invented, measure

NOON = datetime(2019, 11, 14, 12)


@pytest.mark.parametrize("index", ["exact", "faiss"])
def test_speed_is_measured(index: str) -> None:
    lines = measure(invented(3000), invented(30, seed=1), index)
    assert any(line.startswith("all candidates: p50") for line in lines)
    assert (lines[-1] == "of the exact 200 neighbours it finds 1.000") == (index == "faiss")


def test_a_click_is_a_hit_if_its_story_was_a_candidate() -> None:
    one = Impression("u", NOON, [0], [1, 2], [True, False])
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    published = np.array([np.nan, one.seconds - 7200, one.seconds - 60, one.seconds + 60])
    stories = Stories(["a", "b", "c", "later"], vectors, published)
    live = LiveFigures()
    live.shown("another", [ShownStory("b")], one.seconds - 7200)
    figures = live.figures(stories.ids, [None] * 4, one.seconds)
    found = choices(stories, one, figures, hours=None)
    assert found["all that may be"].tolist() == [1, 2]
    assert (found["similar"].tolist(), found["popular"].tolist()) == ([1, 2], [1])
    assert found["new"].tolist() == [2]
    recent = choices(stories, one, figures, hours=1)
    assert recent["all kinds"].tolist() == [2]
    hits = Hits()
    hits.add(one.clicks, found)
    hits.add(one.clicks, recent)
    assert "| all kinds | 0.500 | 2 |" in list(hits.lines())
