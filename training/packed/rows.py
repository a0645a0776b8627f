"""Impressions → rows of tokens without padding, in which candidates share their reader's prefix.

A group is one reader's prefix and a branch for each candidate; a row is several groups. A token
sees its own group's prefix and its own branch, and positions in a branch go on where the prefix
ends: each candidate gets exactly what it would get alone, and the prefix is computed once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.scoring.encoder import Tokens
from app.scoring.prompt import Prompt, PromptBuilder, PromptTooLong
from app.scoring.wording import Reader, Story
from training.errors import TrainingError

Ints = NDArray[np.int64]

WINDOW = 512
"""Groups that are packed together: enough for full rows, few enough to leave the order random."""
IGNORED = -100
UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Branch:
    """A candidate: the end of its prompt, the answer to learn (empty when scoring), 1 for a click,
    0 for none, and its place in the impression."""

    tail: Tokens
    answer: Tokens
    clicked: int
    place: int

    def __len__(self) -> int:
        return len(self.tail) + max(len(self.answer) - 1, 0)


@dataclass(frozen=True, slots=True)
class Group:
    prefix: Tokens
    branches: tuple[Branch, ...]

    def __len__(self) -> int:
        return len(self.prefix) + sum(map(len, self.branches))


@dataclass(frozen=True, slots=True)
class AnswerTokens:
    """What the model learns to say after a prompt, in tokens, with the end of its turn."""

    yes: Tokens
    no: Tokens

    def of(self, clicked: bool) -> Tokens:
        return self.yes if clicked else self.no

    @property
    def longest(self) -> int:
        return max(len(self.yes), len(self.no))


def build_prompts(
    builder: PromptBuilder, reader: Reader, candidates: Sequence[Story], limit: int, name: str
) -> list[Prompt]:
    """Raises TrainingError, naming the impression, for a story too long for `limit` tokens."""
    try:
        return builder.build(reader, candidates, limit)
    except PromptTooLong as error:
        raise TrainingError(
            f"impression {name}, candidate {error.index}: {error}; raise cutoff_len"
        ) from None


def group_prompts(
    prompts: Sequence[Prompt],
    clicked: Sequence[bool] | None,
    answers: AnswerTokens | None,
    row_tokens: int,
) -> list[Group]:
    """One impression's prompts → groups of at most `row_tokens` tokens; the prefix is repeated
    where one group does not hold all candidates."""
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
    """Runs of branches within `budget` tokens; a branch longer than that stands alone."""
    run: list[Branch] = []
    for branch in branches:
        if run and sum(map(len, run)) + len(branch) > budget:
            yield tuple(run)
            run = []
        run.append(branch)
    if run:
        yield tuple(run)


def separate(groups: Iterable[Group]) -> list[Group]:
    """Each candidate by itself, with its own copy of the prefix."""
    return [Group(group.prefix, (branch,)) for group in groups for branch in group.branches]


def pack(groups: Sequence[Group], row_tokens: int, seed: int) -> list[list[Group]]:
    """Groups in random order → rows of at most `row_tokens` tokens: first fit, longest first,
    within each window of the order."""
    order = np.random.default_rng(seed).permutation(len(groups))
    rows: list[list[Group]] = []
    for start in range(0, len(order), WINDOW):
        window = [groups[index] for index in order[start : start + WINDOW]]
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
    """Rows → a batch. [rows, length], padded to the longest row's next `multiple`: input_ids;
    positions, restarting in each branch; group, 0 where there is padding; branch, 0 in a prefix.
    [answers]: answers, where in the flattened batch one begins or goes on; labels, the token to say
    there, IGNORED when scoring; clicked, 1 or 0 where an answer begins, else UNKNOWN.
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
    arrays = {
        "input_ids": np.zeros(length, np.int64),
        "positions": np.zeros(length, np.int64),
        "group": np.zeros(length, np.int64),
        "branch": np.zeros(length, np.int64),
        "labels": np.full(length, IGNORED, np.int64),
        "clicked": np.full(length, UNKNOWN, np.int64),
    }
    at = 0
    for number, group in enumerate(row, start=1):
        arrays["group"][at : at + len(group)] = number
        prefix = len(group.prefix)
        write(arrays, at, group.prefix, 0, 0)
        at += prefix
        for branch_number, branch in enumerate(group.branches, start=1):
            write(arrays, at, branch.tail + branch.answer[:-1], prefix, branch_number)
            last = at + len(branch.tail) - 1
            arrays["labels"][last : last + len(branch.answer)] = branch.answer
            arrays["clicked"][last] = branch.clicked
            at += len(branch)
    return arrays


def write(arrays: dict[str, Ints], at: int, tokens: Tokens, position: int, branch: int) -> None:
    arrays["input_ids"][at : at + len(tokens)] = tokens
    arrays["positions"][at : at + len(tokens)] = np.arange(position, position + len(tokens))
    arrays["branch"][at : at + len(tokens)] = branch
