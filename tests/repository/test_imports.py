"""Imports point one way, also those that are only for types."""

import ast
import subprocess
import sys
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.models import ROOT

MAY_IMPORT = {
    "errors": set[str](),
    "files": set[str](),
    "scoring": set[str](),
    "signals": set[str](),
    "likeness": set[str](),
    "ranker": {"likeness", "signals"},
    "settings": {"errors"},
    "observability": {"settings"},
    "admission": {"errors", "observability"},
    "engine": {"admission", "errors", "files", "observability", "scoring", "settings"},
    "store": {"errors", "files", "observability", "settings"},
    "live": {"observability", "signals", "store"},
    "knowledge": {
        *("admission", "errors", "likeness", "live", "observability", "ranker", "scoring"),
        *("settings", "store"),
    },
    "retrieval": {
        *("errors", "knowledge", "likeness", "live", "observability", "scoring", "settings"),
        *("signals", "store"),
    },
    "feedback": {"errors", "store"},
    "models": {
        *("engine", "errors", "files", "knowledge", "likeness", "observability", "ranker"),
        *("scoring", "settings", "store"),
    },
    "recommender": {
        *("engine", "errors", "knowledge", "models", "observability", "ranker", "scoring"),
    },
    "service": {
        *("admission", "engine", "errors", "feedback", "knowledge", "likeness", "live", "models"),
        *("observability", "recommender", "retrieval", "scoring", "settings", "store"),
    },
    "http": {
        *("admission", "engine", "errors", "feedback", "knowledge", "models", "observability"),
        *("retrieval", "scoring", "service", "settings", "signals", "store"),
    },
    "security": {"errors", "http", "observability", "settings"},
    "server": {"errors", "http", "observability", "service"},
}
"""Package or module of app/ → what else of app/ it may import. The programs, which put the parts
together, may import all: __main__, main, ray."""

PROGRAMS = {"__main__", "main", "ray"}
ENGINES = {"app.engine.vllm", "app.engine.openai", "app.engine.fake", "app.engine.worker"}
WEB = {"fastapi", "starlette", "uvicorn"}


def modules(package: str) -> dict[str, Path]:
    """Name → file of each module of a top-level package."""
    files = sorted((ROOT / package).rglob("*.py"))
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for file in files
    }


def imports(file: Path) -> set[str]:
    """Modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def roots(names: Iterable[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


APP = modules("app")
IMPORTS = {name: imports(file) for name, file in APP.items()}


def part(module: str) -> str:
    """app.http.routes.rank → http"""
    return module.split(".")[1]


@pytest.mark.parametrize("name", [name for name in APP if name != "app"])
def test_parts_of_the_service_import_only_what_they_may(name: str) -> None:
    if part(name) in PROGRAMS:
        return
    found = {part(other) for other in IMPORTS[name] if other.startswith("app.")}
    assert found - {part(name)} <= MAY_IMPORT[part(name)], name


def test_what_parts_may_import_is_no_circle_and_all_of_it_is_used() -> None:
    order = list(TopologicalSorter(MAY_IMPORT).static_order())
    assert order.index("recommender") > order.index("engine")
    for name, allowed in MAY_IMPORT.items():
        used = {
            part(other)
            for module, found in IMPORTS.items()
            if module != "app" and part(module) == name
            for other in found
            if other.startswith("app.")
        }
        assert used >= allowed, f"{name} does not import {allowed - used}"


@pytest.mark.parametrize("package", ["app", "frontpage", "training", "loadtests"])
def test_modules_import_each_other_in_no_circle(package: str) -> None:
    known = modules(package)
    graph = {name: imports(file) & known.keys() - {name} for name, file in known.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_top_level_of_the_service_is_small() -> None:
    assert len(list((ROOT / "app").glob("*.py"))) <= 10


def test_the_service_imports_no_other_package_of_ours() -> None:
    for name, found in IMPORTS.items():
        assert not roots(found) & {"frontpage", "training", "loadtests", "tests", "tools"}, name


def test_scoring_is_pure() -> None:
    for name in APP:
        if name.startswith("app.scoring"):
            assert not roots(IMPORTS[name]) & (WEB | {"vllm", "torch", "transformers"}), name


def test_only_the_engine_imports_vllm() -> None:
    users = {name for name, found in IMPORTS.items() if "vllm" in roots(found)}
    assert users == {
        f"app.engine.{name}"
        for name in (
            *("arguments", "async_llm", "compiled_lora", "compiling", "openai", "openai_errors"),
            *("vllm", "worker"),
        )
    }


def test_only_main_knows_the_engines() -> None:
    users = {name for name, found in IMPORTS.items() if found & ENGINES}
    assert {name for name in users if part(name) != "engine"} == {"app.main"}


def test_http_knows_only_what_an_engine_is() -> None:
    for name in APP:
        if name.startswith("app.http"):
            engine = {other for other in IMPORTS[name] if other.startswith("app.engine.")}
            assert all(other.startswith("app.engine.base") for other in engine), name


def test_the_use_case_loads_no_web_framework() -> None:
    """Transitively, by what Python has loaded afterwards."""
    use_case = "app.service, app.recommender, app.feedback.reports, app.models.declared"
    script = f"import sys, {use_case}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = roots(done.stdout.split())
    assert {"app", "pydantic"} <= loaded
    assert not loaded & WEB


def test_the_client_uses_only_wire_types() -> None:
    allowed = ("app.http.schemas.", "app.feedback.figures")
    for name, file in modules("frontpage").items():
        if name != "frontpage.__main__":
            own = {other for other in imports(file) if other.startswith("app.")}
            assert all(other.startswith(allowed) for other in own), name


def test_training_uses_only_what_serving_and_training_share() -> None:
    allowed = {"errors", "engine", "files", "likeness", "ranker", "scoring", "signals", "store"}
    for name, file in modules("training").items():
        own = {other for other in imports(file) if other.startswith("app.")}
        assert {part(other) for other in own} <= allowed, name
