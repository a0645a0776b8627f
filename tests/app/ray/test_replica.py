"""Ray Serve around the service: the deployment's file, and what is declared for all
replicas. tests/slow has what clients see through Ray's proxy."""

from pathlib import Path

import pytest
import yaml
from ray.serve._private.utils import import_attr
from ray.serve.request_router import RequestRouter
from ray.serve.schema import ServeDeploySchema

from app.errors import StartupError
from app.models.declared import Declaration
from app.ray import replica
from app.ray.replica import Replica
from app.settings import Settings
from loadtests.replicas.ray_cluster import CONFIG

FILES = sorted(CONFIG.parent.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_deployment_is_one_that_ray_takes(file: Path) -> None:
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    found = ServeDeploySchema.model_validate(config)
    [application] = found.applications
    [deployment] = application.deployments
    [given] = config["applications"][0]["deployments"]
    assert import_attr(application.import_path) is replica.service
    assert replica.deployment.name == deployment.name
    router = import_attr(given["request_router_config"]["request_router_class"])
    assert issubclass(router, RequestRouter)
    Declaration.read(given["user_config"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_deployment_names_settings_and_fits_them(file: Path) -> None:
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    [application] = config["applications"]
    [deployment] = application["deployments"]
    names = [
        name.removeprefix("FRONTPAGE_").lower()
        for name in application["runtime_env"]["env_vars"]
        if name.startswith("FRONTPAGE_")
    ]
    assert set(names) <= set(Settings.model_fields) | {"secrets"}
    longest_s = Settings().limits.timeout_ms / 1e3
    assert config["http_options"]["request_timeout_s"] > longest_s
    assert deployment["graceful_shutdown_timeout_s"] > longest_s
    if scaling := deployment.get("autoscaling_config"):
        assert scaling["target_ongoing_requests"] < deployment["max_ongoing_requests"]


def test_a_replica_needs_keys() -> None:
    with pytest.raises(StartupError, match="API keys are needed"):
        Replica()
