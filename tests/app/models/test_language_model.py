"""What a request asks of the engine."""

from app.engine.turns import cost, slices
from app.models.language_model import distinct
from app.scoring.prompt import Prompt


def test_equal_prompts_are_asked_once_and_equal_prefixes_count_once() -> None:
    """Pairs of one reader have prefixes that are equal, but not one object, as those of a /rank."""
    readers = [0, 1, 0, 0, 1, 0]
    tails = [5, 5, 6, 5, 7, 6]
    prompts = [
        Prompt((reader,) * 200, (tail,) * 10, reader)
        for reader, tail in zip(readers, tails, strict=True)
    ]
    asked, places = distinct(prompts)
    assert [asked[place] for place in places] == prompts
    assert places == [0, 1, 2, 0, 3, 2]
    assert cost(asked) == 2 * 200 + 4 * 10
    assert [len(part) for part in slices(asked, lambda: 220)] == [1, 2, 1]
