"""InferenceServices on a real API server: our own code makes, changes and deletes them with a run's token."""

import pytest
from undercut.deploy.canary import Knative, Standard, alone
from undercut.deploy.cluster import Cluster, Conflict
from undercut.deploy.inference_service import Served, inference_service, stable_predictor
from undercut.deploy.settings import DeployConfig
from undercut.errors import ConfigurationError

from tests.manifests.admission.conftest import Overlay
from tests.manifests.test_custom_resources import lost

FIRST, SECOND = Served(digest="a" * 64, uri="s3://b/first"), Served(digest="b" * 64, uri="s3://b/second")
CONFIGS = {
    "standard": DeployConfig(model_name="customer-service", min_replicas=2),
    "scaled": DeployConfig(model_name="customer-service", min_replicas=2, scale_metric="cpu", scale_target=70),
    "gpu": DeployConfig(model_name="Modell_1.5", min_replicas=2, accelerator="nvidia.com/gpu", accelerator_count=1),
    "knative": DeployConfig(model_name="customer-service", mode="Knative", scale_metric="rps", scale_target=20),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_inference_service_is_made_changed_and_deleted(run: Overlay, name: str) -> None:
    run.of_kind("ServingRuntime")
    settings, cluster = CONFIGS[name], Cluster(run.runs)
    content = inference_service(settings, run.runs, FIRST)
    service, mode = content["metadata"]["name"], Knative() if settings.mode == "Knative" else Standard()
    assert cluster.get(service) is None
    try:
        made = cluster.create(content)
        assert lost(content["spec"], made["spec"]) == []
        with pytest.raises(Conflict):
            cluster.create(content)
        for percent in (0, 50):
            changed = mode.with_canary(cluster.get(service) or {}, settings, SECOND, percent)
            assert lost(changed["spec"], cluster.replace(changed)["spec"]) == []
        with pytest.raises(Conflict):  # that version is not the newest
            cluster.replace(changed | {"metadata": changed["metadata"] | {"labels": {"a": "b"}}})
        cluster.replace(alone(cluster.get(service) or {}, settings, stable_predictor(settings, SECOND)))
        for before in mode.ways_back(made["spec"]["predictor"]):
            cluster.replace(alone(cluster.get(service) or {}, settings, before))
        assert cluster.pods({"serving.kserve.io/inferenceservice": service}) == []
    finally:
        cluster.delete(service)
    assert cluster.get(service) is None
    cluster.delete(service)


def test_a_generators_service_is_taken(run: Overlay) -> None:
    run.of_kind("ServingRuntime")
    cluster, served = Cluster(run.runs), Served(digest="c" * 64, uri="s3://b/third", model_format="huggingface")
    made = cluster.create(inference_service(CONFIGS["gpu"], run.runs, served))
    cluster.delete(made["metadata"]["name"])


def test_another_namespace_is_refused_with_the_remedy(run: Overlay) -> None:
    run.of_kind("ServingRuntime")
    with pytest.raises(ConfigurationError, match="manifests/runs"):
        Cluster("default").create(inference_service(CONFIGS["standard"], "default", FIRST))
