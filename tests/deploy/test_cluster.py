"""What the Kubernetes API says, in words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import (
    V1ContainerState,
    V1ContainerStateTerminated,
    V1ContainerStateWaiting,
    V1ContainerStatus,
    V1ObjectMeta,
    V1Pod,
    V1PodCondition,
    V1PodStatus,
)
from undercut.deploy import cluster as module
from undercut.deploy import readiness
from undercut.deploy.canary import MODES
from undercut.deploy.changes import edit, note_another, withdraw_canary
from undercut.deploy.cluster import Conflict, DeploymentError, Unreachable
from undercut.deploy.inference_service import Object, Served, inference_service
from undercut.deploy.readiness import NotReadyError, Wanted, wait_until_ready
from undercut.deploy.rollout import Rolling, roll_out
from undercut.deploy.rollout import _own as own
from undercut.deploy.rollout import _promoted as promoted
from undercut.deploy.settings import DeployConfig
from undercut.deploy.targets import target_of
from undercut.errors import ConfigurationError

from tests.deploy.kserve_cluster import ISVC, Cluster

CONFIG = DeployConfig(model_name="shop", target="kserve")
CONTENT = inference_service(CONFIG, "team", Served(digest="a" * 64, uri="s3://data/a/"))


@pytest.fixture
def api(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> module.Cluster:
    """The API, without the controller's pods."""
    monkeypatch.setattr(module, "WAITS", (0.01, 0.01))
    cluster.paused = True
    return module.Cluster("team")


def test_create_read_change_delete(api: module.Cluster) -> None:
    assert api.get("shop") is None
    api.create(CONTENT)
    with pytest.raises(Conflict):
        api.create(CONTENT)
    live = api.get("shop")
    assert live is not None
    assert live["spec"] == CONTENT["spec"]
    live["spec"]["predictor"]["maxReplicas"] = 9
    api.replace(live)
    with pytest.raises(Conflict, match="the object has been modified"):
        api.replace(live)
    api.delete("shop")
    api.delete("shop")
    assert api.get("shop") is None


def test_a_change_is_made_again_where_the_object_changed(api: module.Cluster) -> None:
    api.create(CONTENT)
    seen: list[str] = []

    def change(live: Object) -> Object:
        seen.append(live["metadata"]["resourceVersion"])
        if len(seen) < 3:
            other = api.get("shop")
            assert other is not None
            api.replace(other)  # somebody else is faster
        return live

    edit(api, CONFIG, change)
    assert len(set(seen)) == 3
    withdraw_canary(api, CONFIG)  # there is none: nothing is written
    api.delete("shop")
    withdraw_canary(api, CONFIG)
    with pytest.raises(DeploymentError, match="InferenceService shop was deleted meanwhile"):
        edit(api, CONFIG, change)


def test_an_outage_is_waited_out(api: module.Cluster, cluster: Cluster) -> None:
    cluster.api.outages = 2
    assert api.get("shop") is None
    cluster.api.outages = 3
    with pytest.raises(
        Unreachable, match=r"cannot get inferenceservices\.serving\.kserve\.io now: the server is currently"
    ):
        api.get("shop")


@pytest.mark.parametrize(
    ("verb", "act"),
    [
        ("get inferenceservices", lambda api: api.get("shop")),
        ("delete inferenceservices", lambda api: api.delete("shop")),
        ("list pods", lambda api: api.pods({"app": "x"})),
    ],
)
def test_a_missing_permission(
    api: module.Cluster, cluster: Cluster, verb: str, act: Callable[[module.Cluster], Any]
) -> None:
    cluster.api.forbidden.add(verb)
    with pytest.raises(
        ConfigurationError, match=rf"allowed: a service account that may {verb}.* in namespace team\. Bind"
    ):
        act(api)


def test_no_kserve(api: module.Cluster, cluster: Cluster) -> None:
    cluster.api.without_kserve = True
    words = "target: got 'kserve'; allowed: a cluster with inferenceservices.serving.kserve.io .*Install KServe"
    with pytest.raises(ConfigurationError, match=words):
        api.get("shop")
    with pytest.raises(ConfigurationError, match=words):
        api.create(CONTENT)


def test_what_the_webhook_says(api: module.Cluster) -> None:
    content = {**CONTENT, "metadata": {**CONTENT["metadata"], "name": "7up"}}
    with pytest.raises(DeploymentError, match=r"refuses to create .*: the InferenceService's name is invalid"):
        api.create(content)


def pod(name: str, model: str, ready: bool = False, restarts: int = 0, **said: Any) -> V1Pod:
    waiting = V1ContainerStateWaiting(reason=said["waiting"], message="why") if "waiting" in said else None
    ended = V1ContainerStateTerminated(exit_code=2, message=said["ended"]) if "ended" in said else None
    container = V1ContainerStatus(
        name="kserve-container",
        image="x",
        image_id="",
        ready=ready,
        restart_count=restarts,
        state=V1ContainerState(waiting=waiting),
        last_state=V1ContainerState(terminated=ended),
    )
    conditions = [V1PodCondition(type="Ready", status=str(ready))]
    if "unscheduled" in said:
        conditions.append(V1PodCondition(type="PodScheduled", status="False", message=said["unscheduled"]))
    status = V1PodStatus(conditions=conditions, container_statuses=[container])
    return V1Pod(metadata=V1ObjectMeta(name=name, labels={"undercut/model": model}), status=status)


class Seen:
    """A cluster that shows one object and these pods."""

    def __init__(self, pods: list[V1Pod], status: Object) -> None:
        self._pods, self._live = pods, {"status": {"address": {"url": "http://x"}, **status}}

    def get(self, name: str) -> Object:
        return self._live

    def pods(self, labels: dict[str, str]) -> list[V1Pod]:
        return self._pods


@pytest.mark.parametrize(
    ("pods", "words"),
    [
        ([], "nothing yet"),
        ([pod("p", "new", unscheduled="0/3 nodes: 3 Insufficient cpu")], "pod p is not scheduled: 0/3 nodes"),
        ([pod("p", "new", waiting="ErrImagePull")], r"pod p, container kserve-container: ErrImagePull \(why\)"),
        ([pod("p", "new", ended="serve: model: not a folder")], "ended with code 2: serve: model: not a folder"),
        ([pod("p", "new", True), pod("q", "old", True)], "1 of 2 pods are of another model"),
        ([pod("p", "new", True)], "1 of 2 pods are ready"),
    ],
)
def test_what_keeps_pods_from_being_ready(pods: list[V1Pod], words: str) -> None:
    replicas = 2 if "of 2 pods are ready" in words else 1
    wanted = Wanted(name="shop", labels={}, model="new", replicas=replicas, ready=lambda live: True, alone=True)
    with pytest.raises(NotReadyError, match=rf"shop was not ready within 0.1 s: .*{words}"):
        wait_until_ready(Seen(pods, {}), wanted, 0.1)  # type: ignore[arg-type]


def test_a_container_that_keeps_failing_ends_the_wait() -> None:
    failing = Seen([pod("p", "new", restarts=3, waiting="CrashLoopBackOff", ended="out of memory")], {})
    wanted = Wanted(name="shop", labels={}, model="new", replicas=1, ready=readiness.is_ready)
    words = r"shop keeps failing: .*CrashLoopBackOff \(why\); .* ended with code 2: out of memory"
    with pytest.raises(NotReadyError, match=words):
        wait_until_ready(failing, wanted, 60)  # type: ignore[arg-type]


def test_what_kserve_says() -> None:
    status = {
        "conditions": [{"type": "PredictorReady", "status": "False", "message": "no runtime undercut-serve"}],
        "modelStatus": {"lastFailureInfo": {"reason": "RuntimeNotRecognized", "message": "not found"}},
    }
    wanted = Wanted(name="shop", labels={}, model="new", replicas=1, ready=readiness.is_ready)
    words = "KServe: RuntimeNotRecognized: not found; KServe: PredictorReady: no runtime undercut-serve"
    with pytest.raises(NotReadyError, match=words):
        wait_until_ready(Seen([], status), wanted, 0.1)  # type: ignore[arg-type]


def test_another_deployment_is_not_overruled(api: module.Cluster) -> None:
    """Its canary is there instead of ours."""
    config, model = DeployConfig(model_name="shop", target="kserve"), Served(digest="b" * 64, uri="s3://data/b/")
    rolling = Rolling(cluster=api, config=config, served=model, texts=(), predictor=None)  # type: ignore[arg-type]
    api.create(CONTENT)
    live = api.get("shop")
    assert live is not None
    with pytest.raises(DeploymentError, match="another deployment changed InferenceService shop: it has no canary now"):
        own(rolling, live)
    other = MODES["Standard"].with_canary(live, config, Served(digest="c" * 64, uri="s3://data/c/"), 0)
    with pytest.raises(DeploymentError, match="it has canary cccccccc now"):
        own(rolling, other)
    assert own(rolling, MODES["Standard"].with_canary(live, config, model, 0))
    edit(api, config, lambda live: MODES["Standard"].with_canary(live, config, model, 0))
    withdraw_canary(api, config)
    left = api.get("shop")
    assert left is not None
    assert left["spec"] == CONTENT["spec"]


def rolling_of(api: module.Cluster, letter: str) -> Rolling:
    served = Served(digest=letter * 64, uri=f"s3://data/{letter}/")
    config = DeployConfig(model_name="shop", target="kserve", ready_seconds=1)
    return Rolling(cluster=api, config=config, served=served, texts=(), predictor=None)  # type: ignore[arg-type]


def test_a_change_whose_answer_is_lost_is_not_taken_for_another_deployments(
    api: module.Cluster, cluster: Cluster
) -> None:
    rolling, content = rolling_of(api, "b"), inference_service(CONFIG, "team", Served(digest="a" * 64, uri="s3://a/"))
    api.create(MODES["Standard"].with_canary(content, CONFIG, rolling.served, 50))
    cluster.api.lost_answers = 1
    edit(api, CONFIG, lambda live: promoted(rolling, live))
    live = api.get("shop")
    assert live is not None
    assert "canary" not in live["spec"]
    assert live["spec"]["predictor"]["labels"]["undercut/model"] == rolling.served.label
    api.delete("shop")
    cluster.api.lost_answers = 1
    with pytest.raises(NotReadyError):  # no controller: it got as far as waiting for pods, and took itself back
        roll_out(rolling)
    assert api.get("shop") is None


def test_an_object_that_is_being_deleted_is_waited_for(api: module.Cluster, cluster: Cluster) -> None:
    api.create(CONTENT)
    finalizers = ["inferenceservice.finalizers"]
    cluster.api.objects[ISVC, "team", "shop"].raw["metadata"] |= {
        "deletionTimestamp": "2026-11-01T00:00:00Z",
        "finalizers": finalizers,
    }
    with pytest.raises(DeploymentError, match=r"is still being deleted \(its finalizers: inferenceservice.finalizers"):
        roll_out(rolling_of(api, "a"))
    assert len(cluster.api.writes) == 1


def test_a_service_with_another_model_than_the_champion_is_named(
    api: module.Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UNDERCUT_EVENTS", str(tmp_path / "events"))
    note_another(api, CONFIG, "a" * 64)
    api.create(CONTENT)
    note_another(api, CONFIG, "a" * 64)
    assert not (tmp_path / "events").exists()
    note_another(api, CONFIG, "b" * 64)
    (said,) = (json.loads(line)["message"] for line in (tmp_path / "events").read_text().splitlines())
    assert said.startswith("InferenceService shop serves model aaaaaaaaaaaa, the registry's champion is bbbbbbbbbbbb")


def test_a_service_of_somebody_else_is_left_alone(api: module.Cluster) -> None:
    model = Served(digest="b" * 64, uri="s3://data/b/")
    rolling = Rolling(cluster=api, config=CONFIG, served=model, texts=(), predictor=None)  # type: ignore[arg-type]
    api.create({**CONTENT, "metadata": {**CONTENT["metadata"], "labels": {}}})
    with pytest.raises(
        ConfigurationError, match=r"model_name: got 'shop'; allowed: a name whose Inf.*Undercut has made"
    ):
        roll_out(rolling)
    api.delete("shop")
    api.create({**CONTENT, "metadata": {**CONTENT["metadata"], "annotations": {}}})
    with pytest.raises(ConfigurationError, match="mode: got 'Standard'; allowed: the service's own, not annotated"):
        roll_out(rolling)


def test_a_model_that_the_image_cannot_load(cluster: Cluster) -> None:
    manifest = {"format": "torch", "structure": "finetuned", "precision": "as-is"}
    with pytest.raises(
        ConfigurationError, match=r"target: got 'kserve with finetuned/as-is'; .*no PyTorch\. Name ONNX"
    ):
        target_of(CONFIG).check(manifest)
    target_of(CONFIG).check({**manifest, "format": "onnx"})


def test_the_object_is_deleted_meanwhile(api: module.Cluster, cluster: Cluster) -> None:
    assert (ISVC, "team", "shop") not in cluster.api.objects
    wanted = Wanted(name="shop", labels={}, model="new", replicas=1, ready=readiness.is_ready)
    with pytest.raises(NotReadyError, match="InferenceService shop was deleted meanwhile"):
        wait_until_ready(api, wanted, 5)
