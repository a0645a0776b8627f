"""The table of stories, and nearest neighbours in it."""

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from app.retrieval.catalogue import Catalogue, Filters
from app.retrieval.faiss_index import FaissIndex
from app.retrieval.index import BLOCK, ExactIndex, Flags, Index, Vectors, highest
from app.store.listing import Listed
from app.store.records import StoredStory

NOW = 1_700_000_000.0
WIDTH = 16
ANY = Filters(NOW)


def unit(count: int, seed: int = 0, width: int = WIDTH) -> Vectors:
    """Random vectors of unit length around a few centres, as titles' are."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(20, width))
    found = centres[random.integers(0, 20, count)] + 0.7 * random.normal(size=(count, width))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def story(number: int, title: str | None = None, **fields: object) -> Listed:
    made = StoredStory(f"N{number}", title or f"title {number}", **fields)  # type: ignore[arg-type]
    return Listed(made, NOW + number)


def filled(count: int, limit: int = 1000) -> tuple[Catalogue, Vectors]:
    """Stories 0 to count, with their vectors."""
    catalogue, vectors = Catalogue(limit, ExactIndex), unit(count)
    catalogue.put([story(number) for number in range(count)], 0.0)
    rows = catalogue.without_vectors().tolist()
    titles = catalogue.titles(rows)
    half = {f"title {number}": vectors[number].astype(np.float16) for number in range(count)}
    assert catalogue.embed(titles, half) == len(rows)
    return catalogue, vectors


def names(catalogue: Catalogue, rows: object) -> list[str]:
    return [one.id for one in catalogue.stories(rows) if one is not None]  # type: ignore[arg-type]


def everything(catalogue: Catalogue, filters: Filters = ANY) -> set[str]:
    return set(names(catalogue, np.flatnonzero(catalogue.allowed(filters)).tolist()))


def test_neighbours_are_those_of_the_highest_cosine() -> None:
    catalogue, vectors = filled(300)
    [query] = unit(1, seed=1)
    expected = np.argsort(-(vectors.astype(np.float16) @ query), kind="stable")[:20]
    found = catalogue.nearest(query, catalogue.allowed(ANY), 20)
    assert set(names(catalogue, found)) == {f"N{number}" for number in expected}
    [best] = catalogue.nearest(vectors[7], catalogue.allowed(ANY), 1)
    assert names(catalogue, [best]) == ["N7"]


@pytest.mark.parametrize("chosen", [1, 50, BLOCK + 90], ids=["one", "few", "most"])
def test_only_what_is_allowed_is_found(chosen: int) -> None:
    index, vectors = ExactIndex(WIDTH), unit(BLOCK + 100)
    index.put(np.arange(len(vectors)), vectors)
    allowed = np.zeros(len(vectors) + 7, np.bool_)
    allowed[np.random.default_rng(0).permutation(len(vectors))[:chosen]] = True
    [query] = unit(1, seed=1)
    scores = np.where(allowed[: len(vectors)], vectors @ query, -np.inf)
    expected = np.argsort(-scores)[: min(30, chosen)]
    assert index.nearest(query, allowed, 30).tolist() == expected.tolist()


def test_a_story_without_a_vector_is_no_neighbour() -> None:
    catalogue, vectors = filled(5)
    catalogue.put([story(9)], 0.0)
    found = catalogue.nearest(vectors[0], catalogue.allowed(ANY), 10)
    assert set(names(catalogue, found)) == {f"N{number}" for number in range(5)}
    assert catalogue.embedded == 5
    assert "N9" in everything(catalogue)


def test_a_story_keeps_its_vector_with_its_title_alone() -> None:
    catalogue, vectors = filled(5)
    catalogue.put([story(1, category="sports")], 0.0)
    assert catalogue.embedded == 5
    catalogue.put([story(1, title="another")], 0.0)
    assert catalogue.embedded == 4
    [row] = catalogue.without_vectors().tolist()
    late = {row: "title 1"}  # was being computed meanwhile
    catalogue.embed(late, {"title 1": vectors[1].astype(np.float16)})
    assert catalogue.embedded == 4
    catalogue.embed({row: "another"}, {"another": vectors[1].astype(np.float16)})
    assert catalogue.embedded == 5


def test_those_that_were_sent_last_stay() -> None:
    catalogue = Catalogue(2000, ExactIndex)
    for start in range(0, 5000, 500):
        catalogue.put([story(number) for number in range(start, start + 500)], 0.0)
    assert len(catalogue) == 2000
    assert everything(catalogue, Filters(NOW + 5000)) == {f"N{n}" for n in range(3000, 5000)}
    catalogue.put([story(0)], 0.0)  # older than all
    assert len(catalogue) == 2000
    assert "N0" not in everything(catalogue)


def test_filters() -> None:
    catalogue = Catalogue(100, ExactIndex)
    catalogue.put(
        [
            story(0, category="sports", published=NOW - 10),
            story(1, category="finance", published=NOW - 1000),
            story(2, published=NOW + 10),
            story(3, category="sports"),
        ],
        0.0,
    )
    assert everything(catalogue) == {"N0", "N1", "N3"}  # N2 is not published yet
    assert everything(catalogue, Filters(NOW + 20)) == {"N0", "N1", "N2", "N3"}
    assert everything(catalogue, Filters(NOW, published_after=NOW - 100)) == {"N0"}
    assert everything(catalogue, Filters(NOW, categories={"sports", "no such"})) == {"N0", "N3"}
    assert everything(catalogue, Filters(NOW, exclude=["N0", "unknown"])) == {"N1", "N3"}


def test_what_has_left_the_store_leaves_and_what_has_changed_is_asked_for() -> None:
    catalogue, _ = filled(6)
    moments = {f"N{number}": NOW + number for number in range(4)} | {"N2": NOW + 99, "N8": NOW}
    assert sorted(catalogue.keep_only(moments)) == ["N2", "N8"]
    assert everything(catalogue) == {"N0", "N1", "N2", "N3"}
    catalogue.put([story(8)], 0.0)  # gets the row of another, without its vector
    assert everything(catalogue) == {"N0", "N1", "N2", "N3", "N8"}
    assert catalogue.embedded == 4


def test_what_was_read_before_an_erasure_does_not_come_back() -> None:
    catalogue, _ = filled(3)
    began = time.monotonic()
    catalogue.erase("N1")
    catalogue.erase("unknown")
    catalogue.put([story(1), story(2)], began)
    assert everything(catalogue) == {"N0", "N2"}
    catalogue.put([story(1)], time.monotonic())  # sent anew
    assert everything(catalogue) == {"N0", "N1", "N2"}


def test_the_highest_scores_and_fewer_if_there_are_fewer() -> None:
    scores = np.array([0.5, -np.inf, 3.0, 1.0])
    assert highest(scores, 2).tolist() == [2, 3]
    assert highest(scores, 10).tolist() == [2, 3, 0]
    assert highest(scores[:0], 10).tolist() == []


def test_searches_go_on_while_stories_come_and_go() -> None:
    (catalogue, _), vectors = filled(900), unit(5000)
    failed: list[BaseException] = []
    stopping = threading.Event()

    def search() -> None:
        try:
            while not stopping.is_set():
                rows = catalogue.nearest(vectors[3], catalogue.allowed(ANY), 50)
                assert len(rows) == 50
                catalogue.stories(rows.tolist())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=search)
    thread.start()
    for start in range(1000, 6000, 100):
        catalogue.put([story(number) for number in range(start, start + 100)], 0.0)
        titles = catalogue.titles(catalogue.without_vectors().tolist())
        found = {title: vectors[row].astype(np.float16) for row, title in titles.items()}
        catalogue.embed(titles, found)
    stopping.set()
    thread.join()
    assert not failed


def recall(index: Index, exact: Index, queries: Vectors, allowed: Flags) -> float:
    """The mean share of the exact 200 neighbours that an index finds, one query at a time."""
    shares = []
    for one in queries:
        found, best = (set(each.nearest(one, allowed, 200).tolist()) for each in (index, exact))
        shares.append(len(found & best) / len(best))
    return float(np.mean(shares))


def both(count: int, width: int = 64) -> tuple[FaissIndex, ExactIndex, Vectors]:
    vectors = unit(count, width=width)
    cells, exact = FaissIndex(width, train_from=10_000), ExactIndex(width)
    for start in range(0, count, 1000):
        rows = np.arange(start, min(start + 1000, count))
        for index in (cells, exact):
            index.put(rows, vectors[rows])
    return cells, exact, vectors


def test_faiss_finds_nearly_all_that_exact_search_finds() -> None:
    cells, exact, vectors = both(20_000)
    allowed = np.ones(20_000, np.bool_)
    assert recall(cells, exact, vectors[::400], allowed) >= 0.95
    few = np.random.default_rng(1).random(20_000) < 0.02
    assert recall(cells, exact, vectors[::400], few) >= 0.95
    found = cells.nearest(vectors[5], few, 200)
    assert len(found) == 200
    assert few[found].all()


def test_faiss_finds_a_row_by_its_new_vector() -> None:
    cells, _, vectors = both(11_000)
    target, allowed = unit(1, seed=5, width=64), np.ones(11_000, np.bool_)
    cells.put(np.array([3]), target)
    assert cells.nearest(target[0], allowed, 1).tolist() == [3]
    close = cells.nearest(vectors[3], allowed, 1).tolist()
    assert close != [3]


MAKERS: list[Callable[[int], Index]] = [ExactIndex, FaissIndex]


@pytest.mark.parametrize("make", MAKERS)
def test_an_index_without_vectors_finds_nothing(make: Callable[[int], Index]) -> None:
    assert make(4).nearest(unit(1, width=4)[0], np.zeros(10, np.bool_), 5).tolist() == []
