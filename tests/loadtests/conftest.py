"""The model and the questions of loadtests.limit, for tests."""

from pathlib import Path

import pytest

from loadtests.limit.workload import Workload, prepare_model
from loadtests.traffic import EXAMPLE_MIND
from tests.support.models import SMOLLM2


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_model(SMOLLM2, "compact", 20, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def workload(model: Path) -> Workload:
    return Workload(model, EXAMPLE_MIND, 20)
