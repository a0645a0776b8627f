"""refresh.json: what a refresh has done, what was decided, and why."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from training.errors import TrainingError
from training.folders import write_whole

RECORD_FILE = "refresh.json"
Decision = Literal["promoted", "taken back", "stopped at the gate", "passed the gate", "abandoned"]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Step(Part):
    """command: as it would be typed; empty for a step that is no command of its own."""

    name: str
    command: list[str] = []
    seconds: float


class Check(Part):
    """One of the gate's. text: in words, with the figures."""

    name: str
    passed: bool
    text: str


class Look(Part):
    """At the experiment. difference: /experiments' own words on the new model's click-through minus
    the served one's; None while there is too little feedback."""

    time: float
    difference: dict[str, Any] | None


class Record(Part):
    """name: of the new adapter. served, served_folder: the model that readers have now. Times are
    in seconds since 1970: start, fit, test and end are those of Windows. since: when the experiment
    began, look: the latest at it. decided: when the decision was carried out; a decision without it
    is still to be."""

    name: str
    plan: dict[str, Any]
    served: str
    served_folder: str
    start: float
    fit: float
    test: float
    end: float
    steps: list[Step] = []
    checks: list[Check] = []
    since: float | None = None
    look: Look | None = None
    decision: Decision | None = None
    why: str = ""
    decided: float | None = None

    def write(self, folder: Path) -> None:
        """Whole. Raises TrainingError."""
        write_whole(folder / RECORD_FILE, self.model_dump_json(indent=1) + "\n")

    def has_done(self, step: str) -> bool:
        return any(one.name == step for one in self.steps)


def read_record(folder: Path) -> Record:
    """Raises TrainingError."""
    file = folder / RECORD_FILE
    try:
        return Record.model_validate_json(file.read_bytes())
    except OSError as error:
        raise TrainingError(f"{file}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise TrainingError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def read_all(out: Path) -> dict[Path, Record]:
    """By folder, the oldest first."""
    found = {file.parent: read_record(file.parent) for file in out.glob(f"*/{RECORD_FILE}")}
    return dict(sorted(found.items(), key=lambda item: item[1].end))
