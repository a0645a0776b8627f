"""Reader and stories → prompts as token ids: a prefix that candidates share, and a tail each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.scoring.encoder import Encoder, Tokens
from app.scoring.profile import Profile
from app.scoring.wording import Piece, Reader, Story, as_text, item_pieces, reader_pieces, used_of

TARGET_STEP = 64
"""When a reader must be cut, a target's tokens are rounded up to a multiple of this. So candidates
of usual length share one prefix, and each gets exactly the prompt it would get alone."""
FILLER = "\n"


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids, after which the model answers. Candidates of one reader share `prefix`."""

    prefix: Tokens
    tail: Tokens
    history_used: int

    @property
    def tokens(self) -> list[int]:
        return [*self.prefix, *self.tail]


class PromptTooLong(ValueError):
    """A target does not fit even without any of the reader's stories. `index` says which one."""

    def __init__(self, index: int, tokens: int, limit: int) -> None:
        super().__init__(f"the story needs a prompt of {tokens} tokens; the model takes {limit}")
        self.index = index


class PromptBuilder:
    """Builds prompts for one model from its tokenizer and profile."""

    def __init__(self, encoder: Encoder, profile: Profile) -> None:
        self.encoder = encoder
        self.profile = profile
        self.layout = profile.layout.without_thinking() if profile.no_think else profile.layout
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
        """Build one prompt per target, each of at most `limit` tokens.

        If the reader is too long, the oldest stories are left out: first of the history, then of
        the liked, then of the disliked ones. Raises PromptTooLong for a target that does not fit
        even so.
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
        """The prompt as one text, neither cut nor padded, for people and for other programs'
        training files."""
        lead, tail = self._target_pieces(target)
        known = reader_pieces(self.layout, used_of(reader, self.profile))
        return as_text([*known, *lead, *tail])

    def _fit(self, reader: Reader, lead: list[Piece], budget: int) -> tuple[Tokens, int]:
        """The longest prefix of at most `budget` tokens, or the shortest possible one if none fits,
        and how many stories of the history it holds."""
        whole = self._prefix(reader, lead)
        if len(whole) <= budget:
            return whole, len(reader.history)
        sizes = (len(reader.history), len(reader.liked), len(reader.disliked))
        low, high = 1, sum(sizes)  # how many stories to leave out, the oldest history first
        while low < high:
            middle = (low + high) // 2
            if len(self._prefix(leave_out(reader, middle), lead)) <= budget:
                high = middle
            else:
                low = middle + 1
        kept = leave_out(reader, low)
        return self._prefix(kept, lead), len(kept.history)

    def _prefix(self, reader: Reader, lead: list[Piece]) -> Tokens:
        head, *rest = [*reader_pieces(self.layout, reader), *lead]
        if self.profile.prefix_multiple == 1:
            return self._encode([head, *rest])
        start, end = self._encode([head]), self._encode(rest)
        missing = -(len(start) + len(end)) % self.profile.prefix_multiple
        return (*start, *self.filler * missing, *end)

    def _target_pieces(self, target: Story) -> tuple[list[Piece], list[Piece]]:
        """The target's pieces: those before its own text, which candidates share, and the rest."""
        lead, *own = item_pieces(self.layout.target, target)
        return [lead], [*own, Piece(self.layout.tail, False)]

    def _encode(self, pieces: Sequence[Piece]) -> Tokens:
        """Encode adjacent template texts together, and each piece of user text by itself."""
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


def leave_out(reader: Reader, count: int) -> Reader:
    """The reader without its `count` least useful stories."""
    kept = {}
    for name in ("history", "liked", "disliked"):
        stories = getattr(reader, name)
        cut = min(count, len(stories))
        count -= cut
        kept[name] = stories[cut:]
    return replace(reader, **kept)
