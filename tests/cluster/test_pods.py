"""Each pipeline, compiled: what every step asks Kubernetes for."""

import functools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from undercut.cli.pipeline_file import load_pipeline
from undercut.cluster import pods
from undercut.cluster.options import CompileOptions
from undercut.errors import ConfigurationError

PIPELINES = sorted(p for p in Path("pipelines").glob("*.py"))
OPTIONS = CompileOptions(
    image="registry.example/train@sha256:" + "a" * 64, team="support", recipe="demo", spot=True, cache_pvc="models"
)


@functools.cache
def compiled(path: Path, options: CompileOptions | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a compiled pipeline's specification, and its executors on Kubernetes."""
    with tempfile.TemporaryDirectory() as folder:
        load_pipeline(str(path), options).compile(Path(folder) / "pipeline.yaml", {})
        spec, *platform = yaml.safe_load_all((Path(folder) / "pipeline.yaml").read_text())
    executors = platform[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if platform else {}
    return spec, executors


def tasks(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any], str]]:
    """Yield (name, task, its DAG, executor's label) of every step, those in loops and conditions included."""
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    for dag in dags:
        for name, task in dag["tasks"].items():
            component = spec["components"][task["componentRef"]["name"]]
            if "executorLabel" in component:
                yield name, task, dag, component["executorLabel"]


@pytest.mark.parametrize("path", PIPELINES, ids=lambda p: p.stem)
def test_every_step_asks_for_what_its_role_needs(path: Path) -> None:
    spec, executors = compiled(path, OPTIONS)
    seen = set()
    for name, task, _, label in tasks(spec):
        container = spec["deploymentSpec"]["executors"][label]["container"]
        asked, stage = executors[label], label.removeprefix("exec-").rstrip("-0123456789")
        seen.add(stage)
        assert asked["securityContext"] == {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}
        assert container["image"] == OPTIONS.image
        variables = {entry["name"]: entry["value"] for entry in container["env"]}
        told = {"UNDERCUT_TEAM": "support", "UNDERCUT_RECIPE": "demo", "UNDERCUT_LONGEST_HOURS": "48"}
        constants = {"UNDERCUT_HOME": pods.HOME, "UNDERCUT_IMAGE": OPTIONS.image, "UNDERCUT_SPOT": "1"}
        assert variables == {**constants, **told}
        assert {e["name"]: e["fieldPath"] for e in asked["fieldPathAsEnv"]} == pods.FIELDS
        assert [m["configMapName"] for m in asked["configMapAsEnv"]] == ["undercut"]
        assert all(entry["optional"] for entry in [*asked["configMapAsEnv"], *asked["secretAsEnv"]])
        assert asked["podMetadata"]["labels"] == {
            "undercut/stage": stage,
            "undercut/team": "support",
            "undercut/recipe": "demo",
        }
        assert task["retryPolicy"]["backoffMaxDuration"] == "172800s", name
        if stage == "allocate":
            assert task["cachingOptions"] == {}, "its result depends on --spot, which is in no cache key"
        assert {"resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit"} <= set(container["resources"])
        _check_role(stage, container["resources"], asked)
    assert "allocate" in seen
    assert seen & set(pods.TRAINING)


def _check_role(stage: str, resources: dict[str, Any], asked: dict[str, Any]) -> None:
    trains = stage in pods.TRAINING
    assert ("accelerator" in resources) == trains, stage
    for entry in ("nodeSelector", "tolerations", "emptyDirMounts", "pvcMount"):
        assert (entry in asked) == trains, (stage, entry)
    assert asked["podMetadata"].get("annotations", {}) == (pods.STAY if trains else {})
    if trains:
        assert asked["emptyDirMounts"][0]["mountPath"] == "/dev/shm"
        assert asked["emptyDirMounts"][0]["medium"] == "Memory"


@pytest.mark.parametrize("path", PIPELINES, ids=lambda p: p.stem)
def test_what_allocate_decides_reaches_every_pod(path: Path) -> None:
    """KFP's driver looks a value up in the task's own DAG: a reference to a task of another one finds nothing."""
    spec, executors = compiled(path, OPTIONS)
    for name, task, dag, label in tasks(spec):
        for text in _placeholders(spec["deploymentSpec"]["executors"][label]["container"]["resources"]):
            assert text in task["inputs"]["parameters"], (name, text)
        for reference in _references(executors[label]):
            if "taskOutputParameter" in reference:
                assert reference["taskOutputParameter"]["producerTask"] in dag["tasks"], (name, reference)
            else:
                owner = next(c for c in [spec["root"], *spec["components"].values()] if c.get("dag") is dag)
                assert reference["componentInputParameter"] in owner["inputDefinitions"]["parameters"], (
                    name,
                    reference,
                )


def _placeholders(resources: dict[str, Any]) -> list[str]:
    texts = json.dumps(resources).split("{{$.inputs.parameters['")[1:]
    return [text.split("'")[0] for text in texts]


def _references(asked: dict[str, Any]) -> list[dict[str, Any]]:
    found = [asked["nodeSelector"]["nodeSelectorJson"]] if "nodeSelector" in asked else []
    found += [entry["tolerationJson"] for entry in asked.get("tolerations", [])]
    found += [entry["secretNameParameter"] for entry in asked["secretAsEnv"]]
    return [entry for entry in found if "runtimeValue" not in entry]


@pytest.mark.parametrize("path", PIPELINES, ids=lambda p: p.stem)
def test_the_description_tells_what_the_form_does_not(path: Path) -> None:
    spec, _ = compiled(path, OPTIONS)
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert len(parameters) <= 20
    for name, parameter in parameters.items():
        assert f"- {name} (" in spec["pipelineInfo"]["description"], name
        assert " ".join(parameter["description"].split()) in spec["pipelineInfo"]["description"]


def test_a_run_on_this_machine_asks_kubernetes_for_nothing() -> None:
    spec, executors = compiled(Path("pipelines/finetune.py"), None)
    assert executors == {}
    assert all("retryPolicy" not in task for _, task, _, _ in tasks(spec))


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ({"team": "a b"}, "team"),
        ({"cache_pvc": "A"}, "cache_pvc"),
        ({"cache_pvc": "models.v1"}, "cache_pvc"),
        ({"shared_memory": "2GB"}, "shared_memory"),
        ({"longest_hours": 0}, "longest_hours"),
        ({"retries": -1}, "retries"),
    ],
)
def test_a_wrong_option_is_refused(flags: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        CompileOptions(**flags)
    assert refused.value.field == word
