"""What a run's ServiceAccount may do on a real API server: its Role, and nothing else."""

import os
from pathlib import Path

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from tests.manifests.admission.conftest import Overlay
from tests.manifests.admission.step_pods import ACCOUNT


def test_an_account_has_the_rights_of_its_role_and_no_other(run: Overlay) -> None:
    asked = client.AuthorizationV1Api(config.new_client_from_config(os.environ["KUBECONFIG"]))
    found = asked.create_self_subject_rules_review({"spec": {"namespace": run.runs}}).status.resource_rules
    nobody = run.server.kubectl(
        *("auth", "can-i", "--list", "--no-headers", "--namespace", run.runs),
        *("--as", f"system:serviceaccount:{run.runs}:default", "--as-group", "system:authenticated"),
        *("--as-group", "system:serviceaccounts"),
    )
    everybody = {line.split()[0] for line in nobody.stdout.splitlines() if line.startswith("self")}
    (role,) = (item for item in run.served if item["kind"] == "Role")
    written = {
        (group, resource, name, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }
    allowed = {
        (group, resource, name, verb)
        for rule in found
        for group in rule.api_groups or []
        for resource in rule.resources or []
        for name in rule.resource_names or [""]
        for verb in rule.verbs
        if f"{resource}.{group}" not in everybody
    }
    assert allowed == written


@pytest.mark.parametrize(
    "attempt",
    [
        *("create pods", "delete pods", "patch pods", "create pods/exec", "get secrets/undercut", "list secrets"),
        *("watch secrets", "list configmaps", "create jobs.batch", "update deployments.apps", "create roles"),
        *("create rolebindings", "create serviceaccounts/token", "update trainjobs.trainer.kubeflow.org"),
        *("update trainingruntimes.trainer.kubeflow.org", "update servingruntimes.serving.kserve.io", "get nodes"),
        *("impersonate serviceaccounts", "list namespaces", "delete workflows.argoproj.io", "patch resourcequotas"),
    ],
)
def test_an_account_may_not(run: Overlay, attempt: str) -> None:
    done = run.server.kubectl(
        *("auth", "can-i", *attempt.split(), "--namespace", run.runs),
        *("--as", f"system:serviceaccount:{run.runs}:{ACCOUNT}"),
    )
    assert done.stdout.strip() == "no", done.stdout + done.stderr


def test_neighbours_may_nothing_here(gpu: Overlay, overlays: dict[str, Overlay], token: Path) -> None:
    core = client.CoreV1Api(config.new_client_from_config(str(token)))
    with pytest.raises(ApiException) as refused:
        core.list_namespaced_pod(overlays["overlays/kind"].runs)
    assert refused.value.status == 403
