"""The tower as PyTorch trains it: a sentence encoder, and a reader encoder over it (NRMS's shape).

The service computes the same from the saved tensors, the reader's part in NumPy
(app.likeness.tower); a test compares the two.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from app.likeness.tower import HEADS, SCALE, TowerFile

LORA_LAYERS = ("query", "key", "value", "dense")
"""The endings of the encoder's matrices that are tuned. BERT's layers have no others."""


class LowRank(nn.Module):
    """A frozen linear layer with a trained addition of low rank (Hu et al. 2021)."""

    def __init__(self, inner: nn.Linear, rank: int) -> None:
        super().__init__()
        self.inner = inner
        self.down = nn.Parameter(torch.empty(rank, inner.in_features))
        self.up = nn.Parameter(torch.zeros(inner.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in] → [..., out]."""
        added: Tensor = self.inner(x) + functional.linear(functional.linear(x, self.down), self.up)
        return added


class Tower(nn.Module):
    """Story vectors [stories, width] of unit length, reader vectors and scores.

    encoder: a transformers model; only its low-rank additions are trained.
    """

    def __init__(self, encoder: Any, rank: int) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = add_low_rank(encoder, rank)
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.hidden = nn.Linear(width, width // 2)
        self.weight = nn.Linear(width // 2, 1, bias=False)
        self.story_bias = nn.Linear(width, 1)
        self.nobody = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.nobody, std=0.02)
        nn.init.zeros_(self.story_bias.weight)

    def stories(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens, mask: [stories, length] → vectors [stories, width] of unit length."""
        states = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
        weights = mask[..., None].float()
        mean = (states * weights).sum(1) / weights.sum(1).clamp(min=1)
        return functional.normalize(mean, dim=1)

    def readers(self, history: Tensor, known: Tensor) -> Tensor:
        """history: [readers, titles, width]; known: [readers, titles], False for padding →
        vectors [readers, width] of unit length."""
        empty = ~known.any(1)
        seen = known | empty[:, None]  # attention over nothing would be NaN
        mixed, _ = self.attention(
            history, history, history, key_padding_mask=~seen, need_weights=False
        )
        logits = self.weight(torch.tanh(self.hidden(mixed)))[..., 0]
        shares = logits.float().masked_fill(~seen, -torch.inf).softmax(1)
        pooled = (shares[..., None] * mixed).sum(1)
        counts = known.sum(1, keepdim=True).clamp(min=1)
        mean = (history * known[..., None]).sum(1) / counts
        vector = torch.where(empty[:, None], self.nobody, pooled + mean / 2)
        return functional.normalize(vector.float(), dim=1)

    def forward(self, readers: Tensor, stories: Tensor) -> Tensor:
        """readers: [readers, width]; stories: [readers, candidates, width] → scores
        [readers, candidates]."""
        cosine = (stories @ readers[..., None])[..., 0]
        scores: Tensor = SCALE * cosine + self.story_bias(stories)[..., 0].float()
        return scores

    def to_file(self, encoder_name: str) -> TowerFile:
        """What the service needs: the low-rank additions and the reader's part, as float16."""
        additions = {}
        for name, module in self.encoder.named_modules():
            if isinstance(module, LowRank):
                additions[f"{name}.down"] = module.down
                additions[f"{name}.up"] = module.up
        own = {
            "attention.in_weight": self.attention.in_proj_weight,
            "attention.in_bias": self.attention.in_proj_bias,
            "attention.out_weight": self.attention.out_proj.weight,
            "attention.out_bias": self.attention.out_proj.bias,
            "pool.hidden_weight": self.hidden.weight,
            "pool.hidden_bias": self.hidden.bias,
            "pool.weight": self.weight.weight[0],
            "story_bias.weight": self.story_bias.weight[0],
            "story_bias.bias": self.story_bias.bias,
            "nobody": self.nobody,
        }
        tensors = {
            name: tensor.detach().float().cpu().numpy().astype("float16")
            for name, tensor in {
                **{f"encoder.{name}": value for name, value in additions.items()},
                **own,
            }.items()
        }
        return TowerFile(encoder_name, tensors)


def add_low_rank(encoder: Any, rank: int) -> Any:
    """Freeze the encoder and give its layers' matrices trained additions."""
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    for name, module in list(encoder.named_modules()):
        if ".layer." in f".{name}" and isinstance(module, nn.Linear) and is_tuned(name):
            parent, _, child = name.rpartition(".")
            setattr(encoder.get_submodule(parent), child, LowRank(module, rank))
    return encoder


def is_tuned(name: str) -> bool:
    """Whether a matrix of this name gets an addition."""
    return name.rpartition(".")[2] in LORA_LAYERS


def load_encoder(folder: Path) -> Any:
    """The encoder in a sentence-transformers folder, in float32."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, dtype=torch.float32)
