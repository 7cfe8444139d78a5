"""Custom resources, against upstream's schemas with every object closed, and through the SDKs' models."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Object = dict[str, Any]
Render = Callable[[str], list[Object]]


@pytest.fixture(scope="session")
def schemas(shared_data: Path) -> Path:
    folder = shared_data.parent / "schemas"
    if not folder.is_dir():
        pytest.skip(f"no schemas of custom resources at {folder}")
    return folder


def closed(schema: Any) -> Any:
    """Return the schema with additionalProperties false wherever properties are listed and unknown ones not kept."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {
        key: {name: closed(part) for name, part in value.items()} if key == "properties" else closed(value)
        for key, value in schema.items()
    }
    keeps = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(result.get("properties"), dict) and not keeps and "additionalProperties" not in result:
        result["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
    return result


def problems(schemas: Path, item: Object) -> list[str] | None:
    """Return what a closed schema has against an object; None where there is no schema of its kind."""
    import jsonschema

    group, _, version = item["apiVersion"].partition("/")
    path = schemas / f"{item['kind']}.{group}.{version}.json"
    if not path.is_file():
        return None
    schema = closed(json.loads(path.read_text()))
    schema["properties"] |= {"metadata": {"type": "object"}, "apiVersion": {}, "kind": {}}
    found = jsonschema.Draft202012Validator(schema).iter_errors(item)
    return [f"{error.json_path}: {error.message}" for error in found]


def test_runtimes_fit_the_closed_schemas(schemas: Path, render: Render) -> None:
    checked = []
    for overlay in ("overlays/kind", "overlays/gpu", "overlays/profile"):
        for item in render(overlay):
            found = problems(schemas, item)
            if found is not None:
                assert found == [], item["metadata"]["name"]
                checked.append(item["kind"])
    assert sorted(checked) == ["ServingRuntime"] * 3 + ["TrainingRuntime"] * 3


@pytest.mark.parametrize("kind", ["ServingRuntime", "TrainingRuntime"])
def test_a_misspelt_field_deep_inside_is_refused(schemas: Path, render: Render, kind: str) -> None:
    (item,) = (i for i in render("overlays/kind") if i["kind"] == kind)
    found = problems(schemas, json.loads(json.dumps(item).replace('"runAsGroup"', '"runAsgroup"', 1)))
    assert found is not None
    assert "runAsgroup" in found[0]


def lost(before: Any, after: Any, place: str = "") -> list[str]:
    """Return where a model dropped or changed what it was given; what it adds is not counted."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            f
            for k, v in before.items()
            for f in (lost(v, after[k], f"{place}.{k}") if k in after else [f"{place}.{k}"])
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [f for i, pair in enumerate(zip(before, after, strict=True)) for f in lost(*pair, f"{place}[{i}]")]
    return [] if before == after else [place]


def test_the_training_runtime_passes_trainers_model_whole(render: Render) -> None:
    models = pytest.importorskip("kubeflow_trainer_api.models")
    for overlay in ("overlays/kind", "overlays/gpu"):
        (item,) = (i for i in render(overlay) if i["kind"] == "TrainingRuntime")
        assert lost(item, models.TrainerV1alpha1TrainingRuntime.from_dict(item).to_dict()) == []
    typo = json.loads(json.dumps(item).replace("podFailurePolicy", "podFailPolicy"))
    assert lost(typo, models.TrainerV1alpha1TrainingRuntime.from_dict(typo).to_dict()) != []


def test_the_serving_runtime_passes_kserves_model_whole(render: Render) -> None:
    import kubernetes.client
    from kserve import models

    for name in dir(models):
        if name.startswith("V1"):
            setattr(kubernetes.client.models, name, getattr(models, name))
    api = kubernetes.client.ApiClient()
    (item,) = (i for i in render("overlays/kind") if i["kind"] == "ServingRuntime")

    class Answer:
        data = json.dumps(item)

    model = api.deserialize(Answer, "V1alpha1ServingRuntime")
    assert lost(item, api.sanitize_for_serialization(model)) == []


def test_trainer_finds_its_container(render: Render) -> None:
    """Trainer 2.3 sets up the container `node` of the ReplicatedJob `node` with this label, and no other."""
    (item,) = (i for i in render("overlays/kind") if i["kind"] == "TrainingRuntime")
    from undercut.cluster.trainjob_body import NODE, RUNTIME

    assert item["metadata"]["name"] == RUNTIME
    (job,) = item["spec"]["template"]["spec"]["replicatedJobs"]
    assert (job["name"], job["template"]["metadata"]["labels"]) == (
        NODE,
        {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"},
    )
    pod = job["template"]["spec"]["template"]
    assert [c["name"] for c in pod["spec"]["containers"]] == [NODE]
    assert pod["spec"]["terminationGracePeriodSeconds"] == 30


def test_node_loss_costs_no_restart_and_a_failure_one(render: Render) -> None:
    (item,) = (i for i in render("overlays/gpu") if i["kind"] == "TrainingRuntime")
    policy = item["spec"]["template"]["spec"]["failurePolicy"]
    (rule,) = policy["rules"]
    assert policy["maxRestarts"] == 1
    # JobSet 0.12's webhook refuses other names (pkg/webhooks/jobset_webhook.go); no schema says so.
    assert re.fullmatch("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])
    assert (rule["action"], rule["onJobFailureReasons"]) == ("RestartJobSetAndIgnoreMaxRestarts", ["PodFailurePolicy"])
    (job,) = item["spec"]["template"]["spec"]["replicatedJobs"]
    (failure,) = job["template"]["spec"]["podFailurePolicy"]["rules"]
    assert (failure["action"], failure["onPodConditions"][0]["type"]) == ("FailJob", "DisruptionTarget")
    # Kubernetes refuses a podFailurePolicy with any other.
    assert job["template"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_no_secret_is_inlined_in_a_runtime(render: Render) -> None:
    (item,) = (i for i in render("overlays/gpu") if i["kind"] == "TrainingRuntime")
    (container,) = item["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"][
        "containers"
    ]
    assert {"configMapRef": {"name": "undercut", "optional": True}} in container["envFrom"]
    keys = {
        e["name"]: e["valueFrom"]["secretKeyRef"] for e in container["env"] if "secretKeyRef" in e.get("valueFrom", {})
    }
    assert keys == {
        "AWS_ACCESS_KEY_ID": {"name": "mlpipeline-minio-artifact", "key": "accesskey", "optional": True},
        "AWS_SECRET_ACCESS_KEY": {"name": "mlpipeline-minio-artifact", "key": "secretkey", "optional": True},
    }
