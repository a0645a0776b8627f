"""Why a story is a candidate."""

from typing import Literal

Source = Literal["similar", "popular", "new"]
