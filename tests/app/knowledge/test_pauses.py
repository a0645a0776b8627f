"""Requests for many readers keep nobody else waiting."""

import asyncio
from pathlib import Path

import numpy as np

from app.knowledge.encoders import Encoders
from app.knowledge.gathering import Knowledge
from app.knowledge.ranking import load_ranking
from app.live.live import Live
from app.scoring.wording import Reader, Story
from tests.support.rankers import titles
from tests.support.stores import running

PAIRS, HISTORY = 1000, 50


async def test_the_loop_goes_on_while_a_thousand_readers_are_looked_up(
    tmp_path: Path, ranked: Path, encoder: Path
) -> None:
    """Counted in turns that others get, not in seconds, which a busy machine changes."""
    random = np.random.default_rng(0)
    pool = [Story(title, "sports", title) for title in titles(400)]
    pairs = [
        (Reader([pool[n] for n in random.integers(0, 400, HISTORY)]), [pool[number % 400]])
        for number in range(PAIRS)
    ]
    with running(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        encoders = Encoders(encoder, store)
        encoders.start()
        ranking = load_ranking(ranked, encoders, None)
        assert ranking is not None
        knowledge = Knowledge(Live(store.database, None, 1000), store.database.now)
        await knowledge.gather(ranking, [(Reader(pool[:HISTORY]), pool)])  # embeds all titles
        work = asyncio.create_task(knowledge.gather(ranking, pairs))
        turns = 0
        while not work.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert len(await work) == PAIRS
        encoders.stop()
    assert turns > 10
