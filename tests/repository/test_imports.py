"""Imports point one way:
main → routes → {recommender, adapters} → {models, scoring, engine.base}."""

import ast
from pathlib import Path

from tests.support.models import ROOT

ENGINES = {"app.engine.vllm", "app.engine.openai", "app.engine.fake", "app.engine.label_head"}
WEB = {"fastapi", "starlette", "uvicorn"}


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


def roots(modules: set[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


def app_files(folder: str = "") -> list[Path]:
    return sorted((ROOT / "app" / folder).rglob("*.py"))


def test_the_service_never_imports_training() -> None:
    for file in app_files():
        assert "training" not in roots(imports(file)), file


def test_scoring_is_pure() -> None:
    for file in app_files("scoring"):
        found = imports(file)
        assert not roots(found) & (WEB | {"vllm", "torch", "transformers"}), file
        own = {name for name in found if name.startswith("app")}
        assert all(name.startswith("app.scoring") for name in own), file


def test_only_the_engine_imports_vllm() -> None:
    users = {file.name for file in app_files() if "vllm" in roots(imports(file))}
    assert users == {"vllm.py", "openai.py"}


def test_only_main_knows_the_engines() -> None:
    for file in app_files():
        if file.parent.name != "engine" and file.name != "main.py":
            assert not imports(file) & ENGINES, file


def test_only_the_programs_and_routes_know_routes() -> None:
    programs = {ROOT / "app" / f"{name}.py" for name in ("main", "ray/replica", "__main__")}
    for file in {*app_files()} - programs - {*app_files("http")}:
        found = {name for name in imports(file) if name.startswith(("app.http.routes", "app.main"))}
        assert not found, file


def test_routes_reach_the_engine_through_the_recommender() -> None:
    for file in app_files("http"):
        found = {name for name in imports(file) if name.startswith("app.engine")}
        assert found <= {"app.engine.base", "app.engine.base.OpenAIAPI"}, file


def test_the_recommender_knows_no_web_framework() -> None:
    for name in (
        "recommender.py",
        "observability/metrics.py",
        "observability/progress.py",
        "models/registry.py",
    ):
        assert not roots(imports(ROOT / "app" / name)) & WEB, name


def test_training_uses_only_scoring_and_engines_of_the_service() -> None:
    for file in sorted((ROOT / "training").rglob("*.py")):
        own = {name for name in imports(file) if name.startswith("app.")}
        assert all(name.startswith(("app.scoring", "app.engine", "app.files")) for name in own), (
            file
        )
