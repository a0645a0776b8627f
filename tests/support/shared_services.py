"""The services on the real vLLM that tests share, since each takes half a minute to start.

Those that the selected tests use start together, when the first is asked for: one alone keeps only
one core busy. A test may end one; the next test that uses it gets a new one.
"""

import json
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from app.security.keys import new_key
from tests.support.models import make_lora, make_tiny_qwen3
from tests.support.servers import Service, start_service, stopped_at_end
from tests.support.waiting import HANG_S

READER_KEY, READER = new_key("reader", "predict")
ADMIN_KEY, ADMIN = new_key("admin", "admin")
CALIBRATION = {"slope": 0.5, "intercept": -1.0}
FIRST = {"layout": "compact", "no_think": True, "history": 9, "calibration": CALIBRATION}


@dataclass(frozen=True)
class TinyModels:
    """A random Qwen3, and two LoRA adapters beside it, the second without a profile."""

    base: Path
    first: Path
    second: Path

    @classmethod
    def make(cls, root: Path) -> "TinyModels":
        base = make_tiny_qwen3(root / "tiny-qwen3")
        first = make_lora(base, root / "first", seed=1, **FIRST)
        return cls(base, first, make_lora(base, root / "second", seed=2))


class SharedServices:
    """By the names of their fixtures; wanted: which to start together, and other names."""

    def __init__(self, folder: Path, tiny: TinyModels, wanted: Collection[str]) -> None:
        self._folder, self._tiny = folder, tiny
        self._running: dict[str, Service] = {}
        self._stack = ExitStack()
        self._starts: dict[str, Callable[[Path], Service]] = {
            "default_service": start_service,
            "tiny_service": self._start_tiny,
            "merged_service": self._start_merged,
        }
        self._wanted = self._starts.keys() & set(wanted)

    def get(self, name: str) -> Service:
        """Ready to answer."""
        for one in {name, *self._wanted} - self._running.keys():
            self._start(one)
        if self._running[name].process.poll() is not None:
            self._start(name)
        self._running[name].wait_until_ready()
        return self._running[name]

    def stop(self) -> None:
        self._stack.close()

    def _start(self, name: str) -> None:
        folder = Path(mkdtemp(prefix=name, dir=self._folder))
        service = self._starts[name](folder / "log")
        self._running[name] = self._stack.enter_context(stopped_at_end(service))

    def _start_tiny(self, log: Path) -> Service:
        """Both adapters, one of them the default; one more can be loaded; with keys."""
        tiny = self._tiny
        service = start_service(
            log,
            model=str(tiny.base),
            adapters=json.dumps({"first": str(tiny.first), "second": str(tiny.second)}),
            default_model="second",
            adapter_root=str(tiny.base.parent),
            max_adapters="1",
            drain_s=str(HANG_S),
            api_keys=json.dumps(
                [key.model_dump(mode="json", exclude_none=True) for key in (READER, ADMIN)]
            ),
        )
        service.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
        return service

    def _start_merged(self, log: Path) -> Service:
        adapters = json.dumps({"news": str(self._tiny.first)})
        return start_service(log, model=str(self._tiny.base), adapters=adapters, merged="true")
