"""What a run may do and whom it may talk to: the whole list, so that a wider one fails here."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.manifests.rendering import MANIFESTS, pod_specs

Object = dict[str, Any]
Render = Callable[[str], list[Object]]
STEP = {"matchLabels": {"pipelines.kubeflow.org/v2_component": "true"}}
# Of Role pipeline-runner in KFP 2.17.0 (base/pipeline/pipeline-runner-role.yaml), what is of the same kinds as ours.
EVERY_VERB = "get list watch create update patch delete"
KFP_RUNNER = {
    ("", "secrets"): "get",
    ("", "configmaps"): "get watch list",
    ("", "persistentvolumeclaims"): EVERY_VERB,
    ("", "pods"): EVERY_VERB,
    ("", "pods/log"): EVERY_VERB,
    ("argoproj.io", "workflows"): "get list watch update patch",
    ("argoproj.io", "workflowtaskresults"): "create patch",
    ("mlflow.kubeflow.org", "experiments"): "get list create update",
}
TRAINJOB = STEP | {"matchExpressions": [{"key": "jobset.sigs.k8s.io/jobset-name", "operator": "Exists"}]}


def test_a_run_may_do_exactly_this(render: Render) -> None:
    (role,) = (i for i in render("overlays/kind") if i["kind"] == "Role")
    assert {
        (group, resource, ",".join(rule.get("resourceNames", []))): " ".join(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    } == {
        ("", "secrets", "mlpipeline-minio-artifact"): "get",
        ("", "configmaps", ""): "get",
        ("", "persistentvolumeclaims", ""): "get create delete",
        ("", "pods", ""): "get list",
        ("", "pods/log", ""): "get",
        ("argoproj.io", "workflows", ""): "get",
        ("argoproj.io", "workflowtaskresults", ""): "create patch",
        ("mlflow.kubeflow.org", "experiments", ""): "get list create update",
        ("trainer.kubeflow.org", "trainjobs", ""): "get create patch delete",
        ("trainer.kubeflow.org", "trainingruntimes", ""): "get",
        ("serving.kserve.io", "inferenceservices", ""): "get create update delete",
    }


def test_what_goes_beyond_kfps_runner_is_trainings_and_predictors(render: Render) -> None:
    (role,) = (i for i in render("overlays/kind") if i["kind"] == "Role")
    beyond = {
        resource
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if not set(rule["verbs"]) <= set(KFP_RUNNER.get((group, resource), "").split())
    }
    assert beyond == {"trainjobs", "trainingruntimes", "inferenceservices"}


def test_every_rule_says_why() -> None:
    lines = (MANIFESTS / "runs/role.yaml").read_text().splitlines()
    rules = [i for i, line in enumerate(lines) if line.startswith("  - apiGroups")]
    assert len(rules) == 11
    assert all(lines[i - 1].startswith("  #") for i in rules)


def test_nothing_is_bound_beyond_a_namespace(all_objects: list[tuple[str, Object]]) -> None:
    kinds = {item["kind"] for _, item in all_objects}
    assert not kinds & {"ClusterRole", "ClusterRoleBinding", "Secret"}
    bindings = [i for folder, i in all_objects if i["kind"] == "RoleBinding" and folder.startswith("overlays")]
    for binding in bindings:
        namespace = binding["metadata"]["namespace"]
        assert binding["roleRef"]["kind"] == "Role"
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "undercut-runner", "namespace": namespace}]


def test_no_pod_of_ours_has_a_token_or_a_right_to_more(render: Render) -> None:
    for item in render("overlays/gpu"):
        for _, spec in pod_specs(item):
            if item["kind"] == "ServingRuntime":  # KServe's pod: the token is the ServiceAccount's matter
                continue
            assert spec["automountServiceAccountToken"] is False, item["metadata"]["name"]
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in spec["containers"] + spec.get("initContainers", []):
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }
    (account,) = (i for i in render("overlays/gpu") if i["metadata"]["name"] == "undercut-serving")
    assert account["automountServiceAccountToken"] is False


def policies(items: list[Object], namespace: str) -> dict[str, Object]:
    """Return the specs of a namespace's NetworkPolicies by name."""
    chosen = [i for i in items if i["kind"] == "NetworkPolicy" and i["metadata"]["namespace"] == namespace]
    return {i["metadata"]["name"]: i["spec"] for i in chosen}


def peers(spec: Object, direction: str) -> set[tuple[str, str]]:
    """Return (who, ports) of every rule: labels' values, or the address."""
    found = set()
    for rule in spec.get(direction, []):
        ports = " ".join(f"{p['protocol']}:{p['port']}" for p in rule.get("ports", []))
        for peer in rule["from" if direction == "ingress" else "to"]:
            if "ipBlock" in peer:
                found.add((peer["ipBlock"]["cidr"], ports))
                continue
            who = [*peer.get("namespaceSelector", {}).get("matchLabels", {}).values()]
            selector = peer["podSelector"]
            who += selector.get("matchLabels", {}).values()
            for term in selector.get("matchExpressions", []):
                who += term.get("values", [term["key"]])
            found.add(("/".join(who), ports))
    return found


@pytest.mark.parametrize(
    ("overlay", "namespace"), [("overlays/kind", "kubeflow"), ("overlays/profile", "user-example")]
)
def test_a_step_talks_to_exactly_these(render: Render, overlay: str, namespace: str) -> None:
    spec = policies(render(overlay), namespace)["undercut-steps"]
    assert spec["podSelector"] == STEP
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert peers(spec, "ingress") == set()
    api = "TCP:443 TCP:6443"
    assert peers(spec, "egress") == {
        ("kube-system/kube-dns", "UDP:53 TCP:53"),
        ("169.254.20.10/32", "UDP:53 TCP:53"),
        ("10.0.0.0/8", api),
        ("172.16.0.0/12", api),
        ("192.168.0.0/16", api),
        ("kubeflow/ml-pipeline", "TCP:8887"),
        ("kubeflow/metadata-grpc-server", "TCP:8080"),
        ("kubeflow/seaweedfs", "TCP:8333"),
        ("undercut/mlflow", "TCP:5000"),
        ("serving.kserve.io/inferenceservice", "TCP:8080"),
    }


def test_trainjobs_talk_among_themselves(render: Render) -> None:
    items = render("overlays/kind")
    spec = policies(items, "kubeflow")["undercut-trainjobs"]
    assert spec["podSelector"] == TRAINJOB
    for direction, key in (("ingress", "from"), ("egress", "to")):
        assert spec[direction] == [{key: [{"podSelector": TRAINJOB}]}]
    (runtime,) = (i for i in items if i["kind"] == "TrainingRuntime")
    ((metadata, _),) = pod_specs(runtime)
    assert STEP["matchLabels"].items() <= metadata["labels"].items()


def test_policies_of_runs_select_only_steps(render: Render) -> None:
    found = policies(render("overlays/kind"), "kubeflow")
    assert set(found) == {"undercut-steps", "undercut-trainjobs", "undercut-to-seaweedfs"}
    for name in ("undercut-steps", "undercut-trainjobs"):
        assert found[name]["podSelector"]["matchLabels"] == STEP["matchLabels"]
    admitted = found["undercut-to-seaweedfs"]
    assert admitted["podSelector"] == {"matchLabels": {"app": "seaweedfs"}}
    assert admitted["policyTypes"] == ["Ingress"]
    assert peers(admitted, "ingress") == {("undercut/mlflow/mlflow-backup", "TCP:8333")}


def test_the_platform_denies_what_it_does_not_list(render: Render) -> None:
    found = policies(render("platform"), "undercut")
    assert found["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert peers(found["mlflow"], "ingress") == {
        ("kubeflow/true", "TCP:5000"),
        ("kubeflow-profile/true", "TCP:5000"),
        ("kubeflow/ml-pipeline", "TCP:5000"),
    }
    outward = {("postgres", "TCP:5432"), ("kubeflow/seaweedfs", "TCP:8333")}
    assert peers(found["mlflow"], "egress") == outward == peers(found["mlflow-backup"], "egress")
    assert peers(found["mlflow-schema"], "egress") == {("postgres", "TCP:5432")}
    assert peers(found["postgres"], "ingress") == {("mlflow/mlflow-schema/mlflow-backup", "TCP:5432")}


def test_the_namespace_is_restricted(render: Render) -> None:
    (namespace,) = (i for i in render("overlays/gpu") if i["kind"] == "Namespace")
    assert namespace["metadata"]["name"] == "undercut"
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_budget_only_where_a_drain_can_pass(render: Render) -> None:
    assert not [i for i in render("overlays/kind") if i["kind"] == "PodDisruptionBudget"]
    items = render("overlays/gpu")
    (budget,) = (i for i in items if i["kind"] == "PodDisruptionBudget")
    (server,) = (i for i in items if i["kind"] == "Deployment")
    assert server["spec"]["replicas"] > budget["spec"]["minAvailable"]


def test_quota_counts_gpus_and_the_limit_range_gives_requests_alone(render: Render) -> None:
    items = render("overlays/gpu")
    (quota,) = (i for i in items if i["kind"] == "ResourceQuota")
    (limits,) = (i for i in items if i["kind"] == "LimitRange")
    assert list(quota["spec"]["hard"]) == ["requests.nvidia.com/gpu"]
    (entry,) = limits["spec"]["limits"]
    assert set(entry) == {"type", "defaultRequest"}
    assert set(entry["defaultRequest"]) == {"cpu", "memory"}
