"""Impressions as rows of tokens without padding, in which candidates share their reader's prefix.

A group is one reader's prefix with a branch for each candidate; a row is several groups. A token
sees its own group's prefix and its own branch, and positions in a branch continue from the prefix.
So each candidate gets exactly what it would get alone, and the prefix is computed once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.scoring.encoder import Tokens
from app.scoring.prompt import Prompt

Ints = NDArray[np.int64]

GROUPS_PACKED_TOGETHER = 512
"""Enough for full rows, few enough to leave the order random."""
IGNORED = -100
"""The label of a token that is not learned."""
UNKNOWN = -1
"""Stands for clicked or not where no answer begins."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One candidate. tail: the end of its prompt. answer: what to learn, empty when scoring.
    clicked: 1 or 0. place: the candidate's place in its impression."""

    tail: Tokens
    answer: Tokens
    clicked: int
    place: int

    def __len__(self) -> int:
        return len(self.tail) + max(len(self.answer) - 1, 0)


@dataclass(frozen=True, slots=True)
class Group:
    """One reader's prefix, and the candidates that share it."""

    prefix: Tokens
    branches: tuple[Branch, ...]

    def __len__(self) -> int:
        return len(self.prefix) + sum(map(len, self.branches))


@dataclass(frozen=True, slots=True)
class AnswerTokens:
    """What the model learns to say after a prompt, in tokens, including the end of its turn."""

    yes: Tokens
    no: Tokens

    def of(self, clicked: bool) -> Tokens:
        return self.yes if clicked else self.no

    @property
    def longest(self) -> int:
        return max(len(self.yes), len(self.no))


def group_prompts(
    prompts: Sequence[Prompt],
    clicked: Sequence[bool] | None,
    answers: AnswerTokens | None,
    row_tokens: int,
) -> list[Group]:
    """One impression's prompts as groups of at most `row_tokens` tokens. The prefix is repeated
    where one group can't hold all candidates."""
    by_prefix: dict[Tokens, list[Branch]] = {}
    for place, prompt in enumerate(prompts):
        is_click = bool(clicked[place]) if clicked is not None else False
        answer = answers.of(is_click) if answers is not None else ()
        branch = Branch(prompt.tail, answer, int(is_click), place)
        by_prefix.setdefault(prompt.prefix, []).append(branch)
    return [
        Group(prefix, branches)
        for prefix, all_branches in by_prefix.items()
        for branches in split(all_branches, row_tokens - len(prefix))
    ]


def split(branches: Iterable[Branch], budget: int) -> Iterator[tuple[Branch, ...]]:
    """The branches in runs of at most `budget` tokens; a longer branch stands alone."""
    run: list[Branch] = []
    for branch in branches:
        if run and sum(map(len, run)) + len(branch) > budget:
            yield tuple(run)
            run = []
        run.append(branch)
    if run:
        yield tuple(run)


def separate(groups: Iterable[Group]) -> list[Group]:
    """Each candidate as a group of its own, with its own copy of the prefix."""
    return [Group(group.prefix, (branch,)) for group in groups for branch in group.branches]


def pack(groups: Sequence[Group], row_tokens: int, seed: int) -> list[list[Group]]:
    """The groups, in an order drawn by the seed, in rows of at most `row_tokens` tokens.

    GROUPS_PACKED_TOGETHER at a time, the longest first, each goes into the first row with room.
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    rows: list[list[Group]] = []
    for start in range(0, len(order), GROUPS_PACKED_TOGETHER):
        window = [groups[index] for index in order[start : start + GROUPS_PACKED_TOGETHER]]
        room: list[int] = []
        opened: list[list[Group]] = []
        for group in sorted(window, key=len, reverse=True):
            fits = (index for index, free in enumerate(room) if free >= len(group))
            index = next(fits, len(room))
            if index == len(room):
                room.append(row_tokens)
                opened.append([])
            room[index] -= len(group)
            opened[index].append(group)
        rows += opened
    return rows


def collate(
    rows: Sequence[Sequence[Group]], multiple: int = 8, length: int | None = None
) -> dict[str, Ints]:
    """A batch of rows, each padded to `length`, or without it to the longest row's next `multiple`.

    Arrays [rows, length]: input_ids; positions, which restart in each branch; group, 0 for padding;
    branch, 0 in a prefix. Arrays [answers]: answers, the places in the flattened batch where an
    answer begins or continues; labels, the token to say there, IGNORED when scoring; clicked, 1 or
    0 where an answer begins, else UNKNOWN.
    """
    longest = max(sum(map(len, row)) for row in rows)
    length = length or -(-longest // multiple) * multiple
    filled = [fill(row, length) for row in rows]
    batch = {name: np.stack([arrays[name] for arrays in filled]) for name in filled[0]}
    labels, clicked = batch.pop("labels").ravel(), batch.pop("clicked").ravel()
    answers = np.flatnonzero((labels != IGNORED) | (clicked != UNKNOWN))
    # Found here, on the processor: a GPU would have to be waited for.
    return batch | {"answers": answers, "labels": labels[answers], "clicked": clicked[answers]}


def fill(row: Sequence[Group], length: int) -> dict[str, Ints]:
    """A row as arrays [length]."""
    parts = [part for number, group in enumerate(row, start=1) for part in spans(group, number)]
    padding = {"labels": IGNORED, "clicked": UNKNOWN}
    arrays = {}
    for name in parts[0]:
        array = np.full(length, padding.get(name, 0), np.int64)
        values = np.concatenate([part[name] for part in parts])
        array[: len(values)] = values
        arrays[name] = array
    return arrays


def spans(group: Group, number: int) -> Iterator[dict[str, Ints]]:
    """A group's prefix and then its branches, each as arrays [tokens]. number: the group's own."""
    start = len(group.prefix)
    yield span(group.prefix, 0, number, 0)
    for branch_number, branch in enumerate(group.branches, start=1):
        part = span(branch.tail + branch.answer[:-1], start, number, branch_number)
        last = len(branch.tail) - 1
        part["labels"][last : last + len(branch.answer)] = branch.answer
        part["clicked"][last] = branch.clicked
        yield part


def span(tokens: Tokens, position: int, group: int, branch: int) -> dict[str, Ints]:
    """Tokens as arrays [tokens], of which none is an answer; the first is at `position`."""
    count = len(tokens)
    return {
        "input_ids": np.array(tokens, np.int64),
        "positions": np.arange(position, position + count),
        "group": np.full(count, group),
        "branch": np.full(count, branch),
        "labels": np.full(count, IGNORED),
        "clicked": np.full(count, UNKNOWN),
    }
