"""How an alias splits readers, as it is sent and declared."""

from typing import Annotated

from pydantic import Field

AliasWeights = Annotated[
    dict[str, Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]],
    Field(min_length=1, max_length=100),
]
"""Model → share of readers. The shares need not add up to 1."""
