from pathlib import Path
from typing import Any

import pytest
from undercut.deploy.cluster import own_namespace
from undercut.deploy.release import releases
from undercut.deploy.settings import DeployConfig, check_deploy_settings
from undercut.deploy.targets import target_of
from undercut.errors import ConfigurationError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "moon"}, "deploy_settings.target: got 'moon'; allowed: local or kserve."),
        ({"mode": "Serverless"}, "deploy_settings.mode: got 'Serverless'; allowed: Standard or Knative."),
        ({"canary_percent": 10.0}, "deploy_settings.canary_percent: got 10; allowed: a share that 1 replicas come"),
        ({"canary_percent": 100}, "deploy_settings.canary_percent: got 100"),
        ({"canary_percents": 10}, "deploy_settings.canary_percents: got 10; allowed: one of model_name, target"),
        ({"max_replicas": 0}, "deploy_settings.max_replicas: got 0; allowed: at least min_replicas (1)."),
        ({"min_replicas": 0}, "deploy_settings.min_replicas: got 0; allowed: a number from 1 on."),
        ({"memory": "1 GB"}, "deploy_settings.memory: got '1 GB'; allowed: a Kubernetes quantity"),
        ({"accelerator": "nvidia.com/gpu"}, "deploy_settings.accelerator_count: got 0"),
        ({"scale_metric": "rps"}, "deploy_settings.scale_metric: got 'rps'; allowed: empty, cpu or memory."),
        ({"namespace": "Team"}, "deploy_settings.namespace: got 'Team'"),
        ({"maximum_p95_ms": 0}, "deploy_settings.maximum_p95_ms: got 0.0"),
        ({"usd_per_hour": -1}, "deploy_settings.usd_per_hour: got -1.0; allowed: zero (not exported) or more."),
        ({"maximum_error_share": 1}, "deploy_settings.maximum_error_share: got 1.0"),
        ({"model_name": "x"}, "deploy_settings.model_name: got 'x'; allowed: model_name of the whole run."),
        ({"min_replicas": 1.5}, "deploy_settings.min_replicas: got 1.5; allowed: a whole number"),
    ],
)
def test_they_are_refused_before_any_work(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        check_deploy_settings("shop", settings)
    assert str(error.value).startswith(message)


def test_they_are_taken() -> None:
    given = {"target": "kserve", "min_replicas": 7.0, "max_replicas": 9, "canary_percent": 10.0, "namespace": "team"}
    expected = DeployConfig(
        model_name="shop", target="kserve", min_replicas=7, max_replicas=9, canary_percent=10, namespace="team"
    )
    assert check_deploy_settings("shop", given) == expected
    assert check_deploy_settings("shop", {}).target == "local"
    assert check_deploy_settings("shop", {"mode": "Knative", "canary_percent": 10}).canary_percent == 10


def test_where_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UNDERCUT_NAMESPACE", raising=False)
    with pytest.raises(ConfigurationError, match="namespace: got ''"):
        own_namespace("")
    monkeypatch.setenv("UNDERCUT_NAMESPACE", "team")
    assert (own_namespace(""), own_namespace("other")) == ("team", "other")
    monkeypatch.delenv("UNDERCUT_RELEASES", raising=False)
    with pytest.raises(ConfigurationError, match="UNDERCUT_RELEASES: got ''; allowed: s3://BUCKET/private"):
        releases()
    monkeypatch.setenv("UNDERCUT_RELEASES", "s3://mlpipeline/private/team/undercut/releases/")
    assert releases() == "s3://mlpipeline/private/team/undercut/releases"
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigurationError, match="target: got 'kserve'; allowed: a cluster to deploy to"):
        target_of(DeployConfig(model_name="shop", target="kserve"))
