"""What a prompt says about a reader and a story: pieces of template and user text, or a chat."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from app.scoring.profile import Layout, Profile, Section

CHAT_HEAD = re.compile(r"<\|im_start\|>system\n(.*)<\|im_end\|>\n<\|im_start\|>user\n(.*)", re.S)
CHAT_TAIL = re.compile(r"(.*)<\|im_end\|>\n<\|im_start\|>assistant\n", re.S)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
"""Control characters and line breaks, all that Unicode has."""


@dataclass(frozen=True, slots=True)
class Story:
    """What a prompt says about a news story. id: names it to the ranker."""

    title: str
    category: str | None = None
    id: str = ""


@dataclass(frozen=True, slots=True)
class Reader:
    """What is known about a reader. Each list starts with the oldest story.

    passed, clicked: the ids of stories that were shown to the reader lately and not clicked, or
    clicked, for the ranker; a story may be there several times.
    """

    history: Sequence[Story] = ()
    liked: Sequence[Story] = ()
    disliked: Sequence[Story] = ()
    passed: Sequence[str] = field(default=(), kw_only=True)
    clicked: Sequence[str] = field(default=(), kw_only=True)


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    is_data: bool


def one_line(text: str) -> str:
    """The text with a space in place of its control characters, so that a title can't write lines
    of the prompt."""
    return text if text.isprintable() else CONTROL.sub(" ", text)


def item_pieces(item: str, story: Story) -> list[Piece]:
    """Split an item such as `"{title}"` into pieces for a story. The first piece is template text,
    the same for all stories."""
    if not story.category and "{category}" in item:
        item = "{title}"
    pieces = []
    for text in parts_of(item):
        match text:
            case "{title}":
                pieces.append(Piece(one_line(story.title), True))
            case "{category}":
                pieces.append(Piece(one_line(story.category or ""), True))
            case _:
                pieces.append(Piece(text, False))
    return pieces


@lru_cache
def parts_of(item: str) -> list[str]:
    """Template text and placeholders in turns, the text first."""
    return re.split(r"(\{title\}|\{category\})", item)


def section_pieces(section: Section, stories: Sequence[Story]) -> list[Piece]:
    if not stories and not section.keep_empty:
        return []
    pieces = [Piece(section.before, False)]
    for number, story in enumerate(stories):
        if number:
            pieces.append(Piece(section.between, False))
        pieces += item_pieces(section.item, story)
    return [*pieces, Piece(section.after, False)]


def reader_pieces(layout: Layout, reader: Reader) -> list[Piece]:
    """The pieces of everything before the target."""
    pieces = [Piece(layout.head, False)]
    for section in layout.sections:
        pieces += section_pieces(section, getattr(reader, section.field))
    return [*pieces, Piece(layout.before_target, False)]


def used_of(reader: Reader, profile: Profile) -> Reader:
    """The reader with only as many of the newest stories as the profile uses."""
    return Reader(
        last(reader.history, profile.history),
        last(reader.liked, profile.liked),
        last(reader.disliked, profile.disliked),
    )


def as_text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def chat_messages(profile: Profile, reader: Reader, target: Story) -> list[dict[str, str]]:
    """The prompt as a client of a chat API sends it. Raises ValueError as `chat_parts` does."""
    system, layout = chat_parts(profile.chat_layout or profile.layout)
    user = as_text(
        [
            *reader_pieces(layout, used_of(reader, profile)),
            *item_pieces(layout.target, target),
            Piece(layout.tail, False),
        ]
    )
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def chat_parts(layout: Layout) -> tuple[str, Layout]:
    """Split a layout into its system text and a layout of the user text alone.

    Raises ValueError unless the layout is one system and one user message in ChatML.
    """
    head, tail = CHAT_HEAD.fullmatch(layout.head), CHAT_TAIL.fullmatch(layout.tail)
    if not head or not tail:
        raise ValueError(f"layout {layout.name} is not a chat: it can't be written as text")
    return head[1], layout.model_copy(update={"head": head[2], "tail": tail[1]})


def is_chat(layout: Layout) -> bool:
    """Whether `chat_parts` can split it."""
    return bool(CHAT_HEAD.fullmatch(layout.head) and CHAT_TAIL.fullmatch(layout.tail))


def last(stories: Sequence[Story], count: int) -> Sequence[Story]:
    return stories[-count:] if count else ()
