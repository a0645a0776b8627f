"""Values of a JSON body that no text or number of the engine can hold.

JSON allows what neither UTF-8 nor 64 bits can: half a surrogate pair (`"\\ud83d"`), integers of any
length, and in Python's reader NaN and infinity. vLLM fails on them deep inside, so they are refused
first.
"""

import math
from typing import NamedTuple, Self, cast

from app.errors import BadRequest

MAX_DEPTH = 100
MANY_VALUES = 100
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1


class Fault(NamedTuple):
    """What is wrong with a value. path: the keys and indices that lead to it, from its end."""

    problem: str
    path: tuple[str, ...] = ()

    def below(self, key: object) -> Self:
        return self._replace(path=(*self.path, str(key)))


def check_encodable(body: object) -> None:
    """Raises BadRequest, whose `param` is the field's path, for a body with a value that can't be
    encoded or nested deeper than MAX_DEPTH."""
    if fault := find_fault(body, MAX_DEPTH):
        field = ".".join(reversed(fault.path))
        raise BadRequest(f"{field or 'body'}: {fault.problem}", field or None)


def find_fault(value: object, levels: int) -> Fault | None:
    """The first fault in a value that may have `levels` levels of lists and objects."""
    if isinstance(value, str):
        return None if is_text(value) else Fault("half a surrogate pair is not a character")
    if isinstance(value, int):
        fits = MIN_INTEGER <= value <= MAX_INTEGER
        return None if fits else Fault("the integer does not fit into 64 bits")
    if isinstance(value, float):
        return None if math.isfinite(value) else Fault("the number is not finite")
    if isinstance(value, dict | list):
        return find_fault_inside(value, levels)
    return None


def find_fault_inside(value: dict[object, object] | list[object], levels: int) -> Fault | None:
    if not levels:
        return Fault(f"the body is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, list) and are_small_integers(value):
        return None
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(key, str) and not is_text(key):
            return Fault("a name holds half a surrogate pair, which is not a character").below(key)
        if fault := find_fault(item, levels - 1):
            return fault.below(key)
    return None


def are_small_integers(values: list[object]) -> bool:
    """Whether a long list holds nothing else. Quick: a prompt may be two million token ids."""
    if len(values) < MANY_VALUES or set(map(type, values)) != {int}:
        return False
    integers = cast(list[int], values)
    return min(integers) >= MIN_INTEGER and max(integers) <= MAX_INTEGER


def is_text(value: str) -> bool:
    """Whether UTF-8 can hold it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
