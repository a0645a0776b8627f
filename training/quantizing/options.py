"""What `quantize` is asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Kind = Literal["int8", "fp8"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class QuantizeOptions:
    """model: a base or merged model. data: a prepared set whose prompts the check uses instead of
    built-in ones. no_check: leave the check out.

    What the result may lose, or it is not kept: max_difference, the mean difference of log-odds;
    min_order, the least mean rank correlation (Spearman's) of one reader's stories; max_mass_loss,
    how much less probability the two labels hold together, on average.
    """

    model: Path
    to: Kind
    output: Path
    data: Path | None
    max_difference: float
    min_order: float
    max_mass_loss: float
    no_check: bool
