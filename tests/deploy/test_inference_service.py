"""What is sent to Kubernetes: against the CRD's closed schema, and through KServe's own classes."""

import copy
from types import SimpleNamespace
from typing import Any

import kserve
import kubernetes.client.models
import pytest
from jsonschema import Draft202012Validator
from undercut.deploy import canary
from undercut.deploy.inference_service import (
    LONGEST_NAME,
    Object,
    Served,
    inference_service,
    predictor,
    service_name,
    stable_predictor,
)
from undercut.deploy.settings import DeployConfig

from tests.deploy.kserve_cluster import webhook

OLD = Served(digest="a" * 64, uri="s3://b/private/team/undercut/releases/shop/aa/")
NEW = Served(digest="b" * 64, uri="s3://b/private/team/undercut/releases/shop/bb/")


def config(**settings: Any) -> DeployConfig:
    return DeployConfig(model_name="shop", target="kserve", **settings)


def live(settings: DeployConfig) -> Object:
    """A first deployment as the API returns it."""
    found = inference_service(settings, "team", OLD)
    found["metadata"] |= {"resourceVersion": "7"}
    url = "http://shop-predictor.team.svc.cluster.local"
    return {**found, "status": {"address": {"url": url}}}


def objects() -> dict[str, Object]:
    gpu = config(accelerator="nvidia.com/gpu", accelerator_count=1, scale_metric="cpu", scale_target=70, max_replicas=9)
    knative = config(mode="Knative", scale_metric="concurrency", scale_target=4)
    generator = Served(digest="c" * 64, uri="s3://b/g/", model_format="huggingface")
    first, serverless = live(config()), live(knative)
    return {
        "first": inference_service(config(usd_per_hour=0.05), "team", OLD),
        "gpu": inference_service(gpu, "team", OLD),
        "generator": inference_service(gpu, "team", generator),
        "knative": inference_service(knative, "team", OLD),
        "canary": canary.MODES["Standard"].with_canary(first, config(min_replicas=4), NEW, 50),
        "generator canary": canary.MODES["Standard"].with_canary(first, gpu, generator, 0),
        "knative canary": canary.MODES["Knative"].with_canary(serverless, knative, NEW, 10),
        "promoted": canary.alone(first, config(), stable_predictor(config(), NEW)),
    }


@pytest.mark.parametrize("name", objects())
def test_the_crds_schema_takes_it(name: str, inference_service_schema: Any) -> None:
    if inference_service_schema is None:
        pytest.skip("no schemas beside the shared data sets")
    check = Draft202012Validator(inference_service_schema)
    assert [error.message for error in check.iter_errors(objects()[name])] == []
    assert webhook(objects()[name]) == ""
    misspelt = copy.deepcopy(objects()[name])
    misspelt["spec"]["predictor"]["model"]["storageURI"] = "s3://b/"
    assert len(list(check.iter_errors(misspelt))) == 1


def without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nothing(part) for key, part in value.items() if part not in (None, "")}
    return [without_nothing(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", objects())
def test_kserves_classes_drop_no_field(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in [kind for kind in dir(kserve.models) if kind.startswith(("V1", "Knative"))]:
        monkeypatch.setattr(kubernetes.client.models, kind, getattr(kserve.models, kind), raising=False)
    api = kubernetes.client.ApiClient()
    content = objects()[name]
    answer = SimpleNamespace(data=kubernetes.client.rest.json.dumps(content))
    read = api.deserialize(answer, "V1beta1InferenceService")
    assert without_nothing(api.sanitize_for_serialization(read)) == without_nothing(content)


def test_a_predictor_for_a_gpu() -> None:
    found = stable_predictor(config(accelerator="nvidia.com/gpu", accelerator_count=2, memory="16Gi", cpu="4"), OLD)
    amounts = {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "2"}
    assert found == {
        "labels": {"undercut/serving": "true", "undercut/model": "a" * 32},
        "serviceAccountName": "undercut-serving",
        "minReplicas": 1,
        "maxReplicas": 4,
        "model": {
            "modelFormat": {"name": "undercut"},
            "runtime": "undercut-serve",
            "storageUri": OLD.uri,
            "resources": {"requests": amounts, "limits": amounts},
        },
    }
    generator = predictor(config(), Served(digest="c" * 64, uri="s3://b/g/", model_format="huggingface"))["model"]
    assert generator["modelFormat"] == {"name": "huggingface"}
    assert generator["args"] == ["--model_name=shop"]
    assert "runtime" not in generator
    assert predictor(config(usd_per_hour=0.048), OLD)["model"]["args"] == ["--usd-per-hour=0.048"]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("shop", "shop"),
        ("customer-service", "customer-service"),
        ("Shop", "m-shop-d00aae"),
        ("7up", "m-7up-be39b1"),
        ("a_b.c", "m-a-b-c-a37152"),
        ("x" * 100, "m-" + "x" * 29 + "-09ecb6"),
    ],
)
def test_names(model: str, name: str) -> None:
    found = service_name(model)
    assert len(found) <= LONGEST_NAME
    assert len(f"isvc.{found}-{NEW.canary}-predictor") <= 63
    assert found == name


def test_a_canary_in_standard_mode_and_back() -> None:
    standard, settings = canary.MODES["Standard"], config(min_replicas=7, max_replicas=8, canary_percent=10)
    before = live(config())
    started = standard.with_canary(before, settings, NEW, 0)
    assert standard.canary(before) == ""
    assert standard.canary(started) == NEW.label
    assert canary.stable_of(started) == before["spec"]["predictor"]
    assert started["spec"]["predictor"]["minReplicas"] == 8  # KServe takes the canary's off
    assert (
        standard.with_canary(live(config(min_replicas=9, max_replicas=9)), settings, NEW, 0)["spec"]["predictor"][
            "minReplicas"
        ]
        == 10
    ), "what runs now runs on"
    assert started["spec"]["predictor"]["model"]["storageUri"] == OLD.uri
    (entry,) = started["spec"]["canary"]
    assert (entry["trafficPercent"], entry["predictor"]["minReplicas"]) == (0, 1)
    shared = standard.with_canary(started, settings, NEW, 10)
    assert shared["spec"]["canary"][0]["trafficPercent"] == 10
    (back,) = standard.ways_back(canary.stable_of(shared))
    restored = canary.alone(shared, settings, back)
    assert restored["spec"] == before["spec"]
    assert restored["metadata"] == before["metadata"]


def test_a_canary_in_knative_mode_and_back() -> None:
    knative, settings = canary.MODES["Knative"], config(mode="Knative", canary_percent=10)
    before = live(settings)
    started = knative.with_canary(before, settings, NEW, 10)
    assert started["spec"]["predictor"]["canaryTrafficPercent"] == 10
    assert (knative.canary(before), knative.canary(started)) == ("", NEW.label)
    assert canary.stable_of(started) == before["spec"]["predictor"]
    first, last = knative.ways_back(canary.stable_of(started))
    halfway = canary.alone(started, settings, first)
    assert halfway["spec"]["predictor"] == {**before["spec"]["predictor"], "canaryTrafficPercent": 0}
    assert canary.stable_of(halfway) == before["spec"]["predictor"]
    assert canary.alone(halfway, settings, last)["spec"] == before["spec"]


def test_a_canarys_own_address() -> None:
    service = canary.MODES["Standard"].canary_service("shop", NEW)
    assert service == "shop-cbbbbbbbb-predictor"
    found = live(config())
    assert canary.address(found, service) == f"http://{service}.team.svc.cluster.local"
    found["status"]["address"]["url"] = "http://shop-predictor.team.svc.example.org:8080"
    assert canary.address(found, service) == f"http://{service}.team.svc.example.org:8080"
