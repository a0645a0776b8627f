"""On what terms a request is judged."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terms:
    """at: the moment to judge for, in Unix seconds; now, if there is none. judge_all: the language
    model judges every target; if not, a shortlist, of a usual length if `shortlist` is None.
    deadline: of the request, on the event loop's clock. may_degrade: whether the first stage may
    answer if the language model can't. draining: the request came while the service was stopping.
    """

    at: float | None = None
    judge_all: bool = True
    shortlist: int | None = None
    deadline: float | None = None
    may_degrade: bool = False
    draining: bool = False
