"""Text → token ids, with template text and user text kept apart.

User text is encoded by a tokenizer without any added tokens, so no title can become a control
token. (`split_special_tokens` would still let through added tokens that are not marked special,
such as Qwen3's `<think>`.)
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

MAX_CACHED_CHARS = 512
"""The token ids of titles up to this length are cached, because stories repeat across readers."""

Tokens = tuple[int, ...]


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
        """The ids of user text, without any control token."""
        return self._cached_data(text) if len(text) <= MAX_CACHED_CHARS else self._encode_data(text)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of a prompt, including control tokens."""
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
        # The vocabulary also holds a control token as an ordinary word: encode it by character.
        spelled = (
            i for char in text for i in self._data.encode(char, add_special_tokens=False).ids
        )
        return tuple(i for i in spelled if i not in self.control_ids)
