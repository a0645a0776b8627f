"""Imports within training/ point one way, wherever in a file they stand, for types as well:
commands → {refreshing, quantizing} → {evaluation, merging} → ranking → tuning → packed → data;
base_models stands alone."""

from graphlib import TopologicalSorter
from pathlib import Path

from tests.repository.test_imports import imports
from tests.support.models import ROOT
from training.__main__ import COMMANDS

BELOW = {
    "base_models": set[str](),
    "data": set[str](),
    "packed": {"data"},
    "tuning": {"packed", "data"},
    "ranking": {"tuning", "packed", "data"},
    "evaluation": {"ranking", "tuning", "packed", "data"},
    "merging": {"tuning", "packed", "data"},
    "quantizing": {"merging", "tuning", "packed", "data"},
    "refreshing": {"evaluation", "tuning", "packed", "data", "ranking"},
}
"""What each package may import, beside itself and SHARED."""
SHARED = {
    "arguments",
    "errors",
    "folders",
    "machine",
    "memory",
    "metrics",
    "progress",
    "provenance",
}
"""Modules that any package may import."""
OF_THE_SERVICE = (
    "app.engine.fingerprint",
    "app.engine.lora",
    "app.engine.memory",
    "app.engine.options",
    "app.engine.weights",
    "app.errors",
    "app.files",
    "app.likeness",
    "app.ranker",
    "app.scoring",
    "app.signals",
    "app.store",
)


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_of(file): file for file in sorted((ROOT / "training").rglob("*.py"))}


def imported(module: str) -> set[str]:
    """Modules of training that a module imports."""
    return imports(MODULES[module]) & MODULES.keys() - {"training", module}


def part(module: str) -> str:
    """The package, or the module at the top, such as tuning or errors."""
    return module.split(".")[1]


def test_every_part_has_its_place() -> None:
    parts = {part(module) for module in MODULES if module != "training"}
    assert parts == BELOW.keys() | SHARED | COMMANDS.keys() | {"__main__"}


def test_packages_import_only_what_is_below_them() -> None:
    for module in MODULES:
        if module != "training" and part(module) in BELOW:
            used = {part(other) for other in imported(module)}
            assert used <= BELOW[part(module)] | SHARED | {part(module)}, module


def test_what_is_shared_knows_no_package_and_no_command() -> None:
    for name in SHARED:
        assert {part(other) for other in imported(f"training.{name}")} <= SHARED, name


def test_commands_do_not_know_each_other() -> None:
    for name in COMMANDS:
        used = {part(other) for other in imported(f"training.{name}")}
        assert not used & COMMANDS.keys(), name


def test_there_is_no_circle() -> None:
    """Raises CycleError, which names the circle."""
    order = TopologicalSorter({module: imported(module) for module in MODULES}).static_order()
    assert set(order) == MODULES.keys()


def test_of_the_service_only_what_both_need_is_used() -> None:
    for module, file in MODULES.items():
        for name in imports(file):
            if name.startswith("app.") and name != "app.engine":
                assert name.startswith(OF_THE_SERVICE), f"{module} imports {name}"
