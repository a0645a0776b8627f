"""Impressions' prompts, in which titles that are too long are cut."""

from collections.abc import Sequence
from dataclasses import replace

from app.scoring.prompt import Prompt, PromptBuilder, PromptTooLong
from app.scoring.wording import Reader, Story
from training.errors import TrainingError


def build_prompts(
    builder: PromptBuilder, reader: Reader, candidates: Sequence[Story], limit: int, name: str
) -> tuple[list[Prompt], list[int]]:
    """The candidates' prompts, each of at most `limit` tokens, and the places of those candidates
    whose titles had to be cut for that.

    Raises TrainingError, naming the impression, where not even a prompt without a title fits.
    """
    cut: list[int] = []
    while True:
        try:
            return builder.build(reader, candidates, limit), cut
        except PromptTooLong as error:
            place = error.index
        shorter = cut_title(builder, candidates[place], limit, f"impression {name}")
        candidates = [*candidates[:place], shorter, *candidates[place + 1 :]]
        cut.append(place)


def cut_title(builder: PromptBuilder, story: Story, limit: int, name: str) -> Story:
    """The story with as much of its title as fits. Raises TrainingError where nothing does."""

    def shortened(length: int) -> Story:
        return replace(story, title=story.title[:length])

    low, high = 0, len(story.title) - 1
    while low < high:
        middle = (low + high + 1) // 2
        try:
            builder.build(Reader(), [shortened(middle)], limit)
            low = middle
        except PromptTooLong:
            high = middle - 1
    try:
        builder.build(Reader(), [shortened(low)], limit)
    except PromptTooLong as error:
        raise TrainingError(f"{name}: even without a title, {error}; raise cutoff_len") from None
    return shortened(low)
