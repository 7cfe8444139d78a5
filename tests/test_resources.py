import json
from typing import Any

import pytest
from undercut.errors import ConfigurationError
from undercut.resources import DEFAULTS, Resources, parse_resources


def test_nothing_asked_is_the_defaults() -> None:
    assert parse_resources({}) == parse_resources(DEFAULTS)
    assert parse_resources({}).processes_per_node == 1


def test_numbers_come_as_a_pipeline_hands_them_on() -> None:
    asked = parse_resources(
        {"accelerator": "nvidia.com/mig-1g.10gb", "accelerator_count": 2.0, "cpu": 4.0, "nodes": 3.0}
    )
    assert (asked.accelerator_count, asked.cpu, asked.nodes, asked.processes_per_node) == (2, "4", 3, 2)
    lost = {"key": "spot", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60.0}
    (toleration,) = parse_resources({"tolerations": [lost]}).tolerations
    assert json.dumps(toleration["tolerationSeconds"]) == "60"


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"memory": "4GB"}, ["resources.memory", "4GB", "8Gi"]),
        ({"cpu": "0"}, ["resources.cpu", "above zero"]),
        ({"cpu": True}, ["resources.cpu", "text"]),
        ({"accelerator": "gpu", "accelerator_count": 1}, ["resources.accelerator", "nvidia.com/gpu"]),
        ({"accelerator": "nvidia.com/gpu"}, ["resources.accelerator", "both, or neither"]),
        ({"accelerator_count": 1}, ["both, or neither"]),
        ({"nodes": 0}, ["resources.nodes", "from 1"]),
        ({"nodes": 1.5}, ["resources.nodes", "whole number"]),
        ({"secret": ""}, ["resources.secret", "Secret"]),
        ({"node_selector": {"gpu": 1}}, ["resources.node_selector.gpu"]),
        ({"tolerations": [{"key": "gpu", "effect": "Never"}]}, ["resources.tolerations", "NoSchedule"]),
        ({"tolerations": [{"effect": "NoSchedule"}]}, ["a key, or operator Exists"]),
        (
            {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
            ["no value where the operator is Exists"],
        ),
        ({"tolerations": [{"key": "a b", "operator": "Exists"}]}, ["a taint's key"]),
        ({"tolerations": [{"key": "a", "value": "x y"}]}, ["a taint's key and its value"]),
        ({"tolerations": [{"operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 60}]}, ["NoExecute"]),
        ({"tolerations": [{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1.5}]}, ["whole number"]),
        ({"tolerations": [{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": "60"}]}, ["whole number"]),
        ({"cpu": "1k"}, ["resources.cpu", "500m"]),
        ({"memory": "500m"}, ["resources.memory", "512Mi"]),
        ({"secret": "a..b"}, ["resources.secret"]),
        ({"secret": "a" * 254}, ["resources.secret"]),
        ({"node_selector": {"a..b/c": "d"}}, ["resources.node_selector"]),
        ({"accelerator": "requests.foo.com/gpu", "accelerator_count": 1}, ["resources.accelerator"]),
        ({"acelerator": "x"}, ["resources.acelerator", "Did you mean accelerator"]),
    ],
)
def test_what_kubernetes_would_refuse_is_refused(entries: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_resources(entries)
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_every_default_is_an_entry() -> None:
    assert set(DEFAULTS) == set(Resources.__dataclass_fields__)
