"""Requests made from valid ones by putting wrong things into them."""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

from tests.fuzz.fields import openai_fields
from tests.fuzz.templates import TEMPLATES

# What json.dumps can't write; the text takes the place of the name in the body.
SPELT = {
    "<number beyond a float>": "1e400",
    "<5,000 digits>": "9" * 5000,
    "<nested 300 deep>": "[" * 300 + "]" * 300,
    "<nested 50,000 deep>": '{"a":' * 50_000 + "1" + "}" * 50_000,
}
STRINGS: list[Any] = [
    *("\ud83d", "news \udc00 today", "\x00", "", " \n", "ﬀ\u202e\u0301", "x" * 300_000),
    *("word " * 9000, "<|im_end|>", "null", "1", "NaN", "../../etc/passwd", "%s{0}{{a}}", "{"),
    *("foo**", r"\p{L}+", "(" * 200, "(a|b){9999999}", "(?<=a)b", "[z-a]", r"\1(a)", "x{,3"),
    *("root ::= root", "root ::= (", 'root ::= "\ud83d"', "nobody", "http://127.0.0.1:9/a.png"),
]
NUMBERS: list[Any] = [
    *(0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64, 10**30, -(10**30), 10**400, 1500, 49_151, 49_152),
    *(0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), -float("inf")),
    *("<number beyond a float>", "<5,000 digits>"),
]
OBJECTS: list[Any] = [
    *({}, {"a": "b"}, {"\ud83d": 1}, {"": None}, {"1": 10**30}, {"-1": 1}, {"49152": 1}, {"x": 1}),
    *({"type": "text", "text": "\udfff"}, {"type": "image_url", "image_url": {"url": "x"}}),
    *({"type": "json_object"}, {"type": "nonsense"}, {"type": "array", "minItems": 10**9}),
    *({"$ref": "#"}, {"$ref": "#/a"}, {"pattern": "foo**", "type": "string"}, {"enum": []}),
    *({"type": "string", "maxLength": 10**12}, {"enum": ["\ud83d"]}, {"role": "nobody"}),
    *({"type": "function", "function": {"name": "\ud83d"}}, {"allOf": [{"type": "object"}]}),
    *({"include_usage": 1}, {"regex": ""}, {"choice": []}, {"json": "{"}, "<nested 50,000 deep>"),
]
OTHERS: list[Any] = [
    *(None, True, False, [], [[]], [None], [0], [-1], [1.5], ["\ud800"], ["a"] * 2000, [2**64]),
    *([49_151], list(range(300)), [""], [" "], [{}], "<nested 300 deep>"),
]
ODD = STRINGS + NUMBERS + OBJECTS + OTHERS
Parent = dict[str, Any] | list[Any]


@dataclass
class Request:
    """One request of the fuzz. number: repeats it, with the same seed. changes: for the reader."""

    number: int
    method: str
    path: str
    body: bytes | None
    changes: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        body = ascii(self.body or b"")[2:-1]
        short = body if len(body) < 1500 else f"{body[:1000]} … {body[-300:]}"
        return f"{self.method} {self.path}  {'; '.join(self.changes)}  {short}"


def make_request(seed: int, number: int) -> Request:
    """The request of this number, always the same for the same seed."""
    random = Random(f"{seed} {number}")
    template = random.choices(TEMPLATES, [one.weight for one in TEMPLATES])[0]
    request = Request(number, template.method, template.path, None)
    if template.body is None:
        mutate_path(request, random)
        return request
    body = copy.deepcopy(template.body)
    fields = openai_fields().get(template.path)
    if fields:
        for name in random.sample(sorted(fields), random.randint(0, 3)):
            body[name] = copy.deepcopy(random.choice(fields[name]))
    if fields and random.random() < 0.7:
        name = random.choice(sorted(fields))
        body[name] = copy.deepcopy(random.choice(fields[name]))
        spots = [(body, name), *places(body[name])]
    else:
        spots = list(places(body))
    request.changes.append(mutate(*random.choice(spots), random))
    request.body = encode(body)
    if random.random() < 0.05:
        mangle(request, random)
    return request


def mutate_path(request: Request, random: Random) -> None:
    """Put something else where the path or the query has a value."""
    above, sign, _ = request.path.rpartition("=" if "=" in request.path else "/")
    value = random.choice([v for v in ODD if isinstance(v, str | int | float)])
    request.path = above + sign + quote(str(value)[:1000] or "-", safe="", errors="surrogatepass")


def places(value: Any) -> Iterator[tuple[Parent, Any]]:
    """All (container, key) within a value."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in items:
            yield value, key
            yield from places(part)


def mutate(parent: Parent, key: Any, random: Random) -> str:
    """Change one place of a body; returns what was done."""
    kind = random.choice(["replace"] * 8 + ["remove", "repeat", "wrap", "add"])
    if kind == "replace":
        parent[key] = random.choice(like(parent[key]) if random.random() < 0.6 else ODD)
        return f"{key} = {shown(parent[key])}"
    if kind == "remove":
        parent.pop(key)
    elif kind == "repeat":
        parent[key] = [parent[key]] * random.choice([2, 200, 1500])
    elif kind == "wrap":
        parent[key] = {"a": parent[key]}
    elif isinstance(parent, dict):
        parent[random.choice(["unknown", "\ud83d", ""])] = random.choice(ODD)
    return f"{kind} {key}"


def like(value: Any) -> list[Any]:
    """Odd values of the same type, which get further than those of another."""
    if isinstance(value, str):
        return STRINGS
    if isinstance(value, dict):
        return OBJECTS
    return NUMBERS if isinstance(value, int | float) else ODD


def shown(value: Any) -> str:
    text = ascii(value) if not isinstance(value, int) or abs(value) < 10**40 else "10**400"
    return text if len(text) < 60 else f"{text[:57]}…"


def encode(body: Any) -> bytes:
    text = json.dumps(body)
    for name, spelling in SPELT.items():
        text = text.replace(json.dumps(name), spelling)
    return text.encode()


def mangle(request: Request, random: Random) -> None:
    """Break the body's bytes themselves."""
    assert request.body is not None
    cut = random.randrange(len(request.body) + 1)
    kind, request.body = random.choice(
        [
            ("cut off", request.body[:cut]),
            ("not UTF-8", request.body[:cut] + b"\xff\xc3" + request.body[cut:]),
            ("UTF-16", request.body.decode().encode("utf-16")),
            ("a mark of byte order", b"\xef\xbb\xbf" + request.body),
            ("a list", b"[" + request.body + b"]"),
            ("empty", b""),
        ]
    )
    request.changes.append(kind)
