"""Reader and stories → token ids: a prefix that candidates share, then each one's own tail.

Template text and user text are encoded apart. User text goes through a tokenizer that knows no
added tokens at all (`split_special_tokens` would still let through those not marked special, such
as Qwen3's `<think>`), so no title can become a control token.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from app.scoring.profile import NO_THINK, Layout, Profile, Section

TARGET_STEP = 64
"""Tokens. When a reader must be cut, a target counts in whole steps, so that candidates of usual
length keep one shared prefix, and each still gets exactly the prompt it would get alone."""
FILLER = "\n"
CACHED_LENGTH = 512
"""Characters. Titles up to this length keep their token ids: stories repeat across readers."""

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Story:
    """What a prompt says of a news story."""

    title: str
    category: str | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """What is known of a reader; each list has its oldest story first."""

    history: Sequence[Story] = ()
    liked: Sequence[Story] = ()
    disliked: Sequence[Story] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids whose next token is the answer. Candidates of one reader share `prefix`."""

    prefix: Tokens
    tail: Tokens
    history_used: int

    @property
    def tokens(self) -> list[int]:
        return [*self.prefix, *self.tail]


class PromptTooLong(ValueError):
    """A target does not fit, even with nothing of the reader; `index` says which."""

    def __init__(self, index: int, tokens: int, limit: int) -> None:
        super().__init__(f"the story needs {tokens} tokens of prompt, the model takes {limit}")
        self.index = index


class Encoder:
    """A model's tokenizer, with template text and user text kept apart."""

    def __init__(self, tokenizer_file: Path) -> None:
        """tokenizer_file: a Hugging Face tokenizer.json."""
        text = tokenizer_file.read_text(encoding="utf-8")
        self._template = Tokenizer.from_str(text)
        bare = json.loads(text)
        self.control_ids = frozenset(token["id"] for token in bare["added_tokens"])
        bare["added_tokens"] = []
        bare["post_processor"] = None
        self._data = Tokenizer.from_str(json.dumps(bare))
        self.template = lru_cache(maxsize=1024)(self._encode_template)
        self._cached_data = lru_cache(maxsize=65536)(self._encode_data)

    def data(self, text: str) -> Tokens:
        """The ids of user text, never a control token."""
        return self._cached_data(text) if len(text) <= CACHED_LENGTH else self._encode_data(text)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of a prompt, control tokens included."""
        decoded: str = self._template.decode(list(tokens), skip_special_tokens=False)
        return decoded

    def label(self, text: str) -> int:
        """The first token of an answer as it follows the prompt."""
        return self.template(text)[0]

    def _encode_template(self, text: str) -> Tokens:
        return tuple(self._template.encode(text, add_special_tokens=False).ids)

    def _encode_data(self, text: str) -> Tokens:
        ids = tuple(self._data.encode(text, add_special_tokens=False).ids)
        if self.control_ids.isdisjoint(ids):
            return ids
        # A vocabulary that spells a control token as an ordinary word: say it in characters.
        spelled = (
            i for char in text for i in self._data.encode(char, add_special_tokens=False).ids
        )
        return tuple(i for i in spelled if i not in self.control_ids)


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    is_data: bool


def item_pieces(item: str, story: Story) -> list[Piece]:
    """`"{title}"` and a story → its pieces in order; the first is text, shared by all stories."""
    if "{category}" in item and not story.category:
        item = "{title}"
    pieces = []
    for text in re.split(r"(\{title\}|\{category\})", item):
        match text:
            case "{title}":
                pieces.append(Piece(story.title, True))
            case "{category}":
                pieces.append(Piece(story.category or "", True))
            case _:
                pieces.append(Piece(text, False))
    return pieces


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
    """All that precedes the target."""
    pieces = [Piece(layout.head, False)]
    for section in layout.sections:
        pieces += section_pieces(section, getattr(reader, section.field))
    return [*pieces, Piece(layout.before_target, False)]


def used_of(reader: Reader, profile: Profile) -> Reader:
    """As many stories, the newest, as the profile asks for."""
    return Reader(
        last(reader.history, profile.history),
        last(reader.liked, profile.liked),
        last(reader.disliked, profile.disliked),
    )


def as_text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


class PromptBuilder:
    """Prompts of one model: its tokenizer and its profile."""

    def __init__(self, encoder: Encoder, profile: Profile) -> None:
        self.encoder = encoder
        self.profile = profile
        self.yes = encoder.label(profile.labels.yes)
        self.no = encoder.label(profile.labels.no)
        if self.yes == self.no:
            raise ValueError(
                f"labels {profile.labels.yes!r} and {profile.labels.no!r} start with the same token"
            )
        self.filler = encoder.template(FILLER)
        if profile.prefix_multiple > 1 and len(self.filler) != 1:
            raise ValueError(
                "prefix_multiple must be 1: this tokenizer has no token for a line break"
            )

    def build(self, reader: Reader, targets: Sequence[Story], limit: int) -> list[Prompt]:
        """One prompt a target, each at most `limit` tokens.

        A reader too long loses the oldest history first, then the oldest liked and disliked.
        Raises PromptTooLong for a target that alone does not fit.
        """
        reader = used_of(reader, self.profile)
        lead, _ = self._target_pieces(Story(""))
        prefixes: dict[int, tuple[Tokens, int]] = {}
        prompts = []
        for index, target in enumerate(targets):
            tail = self._encode(self._target_pieces(target)[1])
            steps = -(-len(tail) // TARGET_STEP)
            if steps not in prefixes:
                prefixes[steps] = self._fit(reader, lead, limit - steps * TARGET_STEP)
            prefix, used = prefixes[steps]
            if len(prefix) + len(tail) > limit:
                raise PromptTooLong(index, len(prefix) + len(tail), limit)
            prompts.append(Prompt(prefix, tail, used))
        return prompts

    def text(self, reader: Reader, target: Story) -> str:
        """The prompt as one text, uncut and not filled up: for people, and for other programs'
        training files."""
        lead, tail = self._target_pieces(target)
        known = reader_pieces(self.profile.layout, used_of(reader, self.profile))
        return as_text([*known, *lead, *tail])

    def _fit(self, reader: Reader, lead: list[Piece], budget: int) -> tuple[Tokens, int]:
        """The longest prefix within `budget` tokens (the shortest there is, if none), and how many
        stories of the history it holds."""
        sizes = (len(reader.history), len(reader.liked), len(reader.disliked))
        low, high = 0, sum(sizes)  # how many stories to leave out, the oldest history first
        while low < high:
            middle = (low + high) // 2
            if len(self._prefix(leave_out(reader, middle), lead)) <= budget:
                high = middle
            else:
                low = middle + 1
        kept = leave_out(reader, low)
        return self._prefix(kept, lead), len(kept.history)

    def _prefix(self, reader: Reader, lead: list[Piece]) -> Tokens:
        head, *rest = [*reader_pieces(self.profile.layout, reader), *lead]
        if self.profile.prefix_multiple == 1:
            return self._encode([head, *rest])
        start, end = self._encode([head]), self._encode(rest)
        missing = -(len(start) + len(end)) % self.profile.prefix_multiple
        return (*start, *self.filler * missing, *end)

    def _target_pieces(self, target: Story) -> tuple[list[Piece], list[Piece]]:
        """What precedes the target's own text, which candidates share, and the rest."""
        layout = self.profile.layout
        lead, *own = item_pieces(layout.target, target)
        tail = layout.tail + (NO_THINK if self.profile.no_think else "")
        return [lead], [*own, Piece(tail, False)]

    def _encode(self, pieces: Sequence[Piece]) -> Tokens:
        """Neighbouring template texts are encoded as one, each piece of user text by itself."""
        tokens: list[int] = []
        literal = ""
        for piece in pieces:
            if not piece.is_data:
                literal += piece.text
                continue
            if not piece.text:
                continue
            tokens += self.encoder.template(literal)
            tokens += self.encoder.data(piece.text)
            literal = ""
        return (*tokens, *self.encoder.template(literal))


def last(stories: Sequence[Story], count: int) -> Sequence[Story]:
    return stories[-count:] if count else ()


def leave_out(reader: Reader, count: int) -> Reader:
    """The reader without its `count` least useful stories."""
    lists = []
    for stories in (reader.history, reader.liked, reader.disliked):
        cut = min(count, len(stories))
        count -= cut
        lists.append(stories[cut:])
    return Reader(*lists)
