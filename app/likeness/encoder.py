"""Sentence vectors from a sentence-transformers folder, on the processor."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from app.likeness.folder import EncoderError, check_encoder
from app.likeness.tower import Tensors, encoder_additions

MAX_TOKENS = 48
"""Titles are cut after so many tokens; one in 10,000 of MIND's is longer."""
BATCH = 64

Vectors = NDArray[np.float32]


class SentenceEncoder:
    """Mean-pooled vectors of unit length (Reimers and Gurevych 2019), with or without a tower's
    additions to the encoder's matrices."""

    def __init__(self, folder: Path, tower: Tensors | None = None) -> None:
        """folder: a transformers encoder with its tokenizer. Raises EncoderError."""
        check_encoder(folder)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
            logging.disable_progress_bar()
            model = AutoModel.from_pretrained(folder, dtype=torch.float32)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise EncoderError(f"{folder}: can't load the sentence encoder: {error}") from None
        if tower is not None:
            add(model, encoder_additions(tower))
        self._model = model.eval()
        self._tokenizing = Lock()  # the tokenizer is not for several threads at once
        self.width: int = model.config.hidden_size

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors [texts, width] of unit length. Texts of similar length are computed together."""
        found = np.zeros((len(texts), self.width), np.float32)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            with self._tokenizing:
                given = self._tokenizer(
                    [texts[place] for place in places],
                    padding=True,
                    truncation=True,
                    max_length=MAX_TOKENS,
                    return_tensors="pt",
                )
            states = self._model(**given).last_hidden_state
            mask = given["attention_mask"][..., None]
            mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            found[places] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return found


@torch.no_grad()
def add(model: torch.nn.Module, additions: Mapping[str, NDArray[np.float32]]) -> None:
    """Add to the weights of a model's matrices, by their modules' names. Raises EncoderError where
    the model has no such matrix."""
    for name, added in additions.items():
        try:
            weight = model.get_submodule(name).get_parameter("weight")
        except AttributeError:
            raise EncoderError(f"the tower was tuned on another encoder: no {name}") from None
        if tuple(weight.shape) != added.shape:
            raise EncoderError(f"the tower was tuned on another encoder: {name} has another shape")
        weight.add_(torch.from_numpy(added))
