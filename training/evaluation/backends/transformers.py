"""A model of any method, run by transformers and asked as training asks it."""

import gc
from collections.abc import Sequence
from importlib.util import find_spec

import torch
from tokenizers import Tokenizer
from transformers.utils import logging

from training.data.prepared import Impression
from training.evaluation.backends.base import (
    MAX_TOKENS,
    SERVED_METHODS,
    TEMPERATURE,
    Answers,
    first_prompts,
    judge,
)
from training.packed.scorer import score
from training.progress import say
from training.tuning.methods import best_device, load_trained
from training.tuning.sources import Source


class TransformersBackend:
    concurrent = False

    def __init__(self, source: Source, batch_tokens: int, dtype: str) -> None:
        """batch_tokens: of a forward pass. dtype: of the weights, or "auto" for those stored."""
        self.profile = source.profile
        self.builder = source.builder()
        self.tokenizer = Tokenizer.from_file(str(source.base / "tokenizer.json"))
        self.batch_tokens = batch_tokens
        logging.disable_progress_bar()
        folder = source.adapter or source.base
        device = best_device()
        self.chunk = 16 if device == "cuda" else 4
        if device == "cpu" and source.method in SERVED_METHODS and find_spec("vllm"):
            say(f"on a CPU, try --backend vllm: it runs {folder} too, as the service does")
        self.model = load_trained(folder, source.base, dtype, device)

    def score(self, impressions: Sequence[Impression]) -> list[Answers]:
        found = score(self.model, self.builder, impressions, self.batch_tokens)
        return [judge(log_yes, log_no, self.profile) for log_yes, log_no in found]

    def write(self, samples: Sequence[Impression]) -> list[str]:
        """In batches of at most batch_tokens, padded on the left."""
        limit = self.model.config.max_position_embeddings - MAX_TOKENS
        prompts = first_prompts(self.builder, samples, limit)
        size = max(1, self.batch_tokens // max(map(len, prompts)))
        torch.manual_seed(0)
        texts: list[str] = []
        for start in range(0, len(prompts), size):
            texts += self.tokenizer.decode_batch(self._generate(prompts[start : start + size]))
        return texts

    def _generate(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """The tokens that follow each prompt."""
        longest = max(map(len, prompts))
        padding = [longest - len(prompt) for prompt in prompts]
        ids = [[0] * pad + prompt for pad, prompt in zip(padding, prompts, strict=True)]
        mask = [[0] * pad + [1] * (longest - pad) for pad in padding]
        with torch.inference_mode():
            tokens = self.model.generate(
                input_ids=torch.tensor(ids, device=self.model.device),
                attention_mask=torch.tensor(mask, device=self.model.device),
                do_sample=True,
                temperature=TEMPERATURE,
                max_new_tokens=MAX_TOKENS,
            )
        rows: list[list[int]] = tokens[:, longest:].tolist()
        return rows

    def close(self) -> None:
        del self.model
        gc.collect()
        torch.cuda.empty_cache()
