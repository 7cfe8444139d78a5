"""A deployment that ends between any two of its changes, and is run again each time.

It ends by an exception that nothing catches, right after the change: what follows is not done, as after SIGKILL.
(A real SIGKILL is in ``test_kserve.py``.)
"""

from collections.abc import Callable
from typing import Any

import pytest
from mlflow import MlflowClient
from undercut.deploy import canary, rollout
from undercut.deploy.cluster import Cluster as Api

from tests.deploy.kserve_cluster import Cluster
from tests.deploy.test_kserve import KSERVE, aliases, digest, other, serves, worse

__all__ = ["worse"]


class Killed(BaseException):
    """The end."""


@pytest.fixture
def run(deployed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any] | None]:
    """Return a function that deploys a model and ends after so many changes to the service or the champion's alias.

    It returns ``deployment.json``, or None where the run ended early.
    """
    left = 0

    def dying(kind: type, name: str, counts: Callable[..., bool] = lambda *given: True) -> None:
        act = getattr(kind, name)

        def call(self: Any, *given: Any) -> Any:
            nonlocal left
            found = act(self, *given)
            left -= counts(*given)
            if left == 0 and counts(*given):
                raise Killed
            return found

        monkeypatch.setattr(kind, name, call)

    for name in ("create", "replace", "delete"):
        dying(Api, name)
    dying(MlflowClient, "set_registered_model_alias", lambda name, alias, version: alias == "champion")

    def deploy(model: Any, changes: int, **settings: Any) -> dict[str, Any] | None:
        nonlocal left
        left = changes
        try:
            record: dict[str, Any] = deployed(model, **{**KSERVE, **settings})
        except Killed:
            return None
        return record

    return deploy


@pytest.mark.resilience
def test_each_change_may_be_the_last(
    cluster: Cluster, run: Callable[..., Any], linear_model: Any, worse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alias never names a model before it was tested in the cluster, and one more run finishes the work."""
    checks: list[str] = []
    load_check = rollout.load_check
    monkeypatch.setattr(rollout, "load_check", lambda *given: (checks.append(given[0]), load_check(*given))[1])
    assert run(worse, 1) is None  # made
    live = cluster.live()
    assert live is not None
    assert canary.is_untested(live)
    assert (aliases(), checks) == ({"challenger": "1"}, [])
    assert run(worse, 1) is None  # tested
    assert (aliases(), len(checks)) == ({"challenger": "1"}, 1)
    assert serves(cluster.live()) == digest(worse)
    assert run(worse, 1) is None  # champion
    assert aliases() == {"champion": "1", "challenger": "1"}
    record = run(worse, 1)
    assert record is not None
    assert (record["kserve"]["how"], aliases(), len(checks)) == ("it serves this model already", {"champion": "1"}, 1)
    for changes in (1, 2):  # the canary unseen, with its share
        assert run(linear_model, changes) is None
        assert aliases() == {"champion": "1", "challenger": "2"}
        live = cluster.live()
        assert live is not None
        assert canary.MODES["Standard"].canary(live) == digest(linear_model)[:32]
        assert canary.stable_of(live)["labels"]["undercut/model"] == digest(worse)[:32]
    assert run(linear_model, 3) is None  # promoted
    assert aliases() == {"champion": "1", "challenger": "2"}
    assert serves(cluster.live()) == digest(linear_model)
    assert run(linear_model, 1) is None  # champion
    assert aliases() == {"champion": "2", "challenger": "2"}
    record = run(linear_model, 1)
    assert record is not None
    assert aliases() == {"champion": "2"}
    assert serves(cluster.live()) == digest(linear_model)


@pytest.mark.resilience
def test_a_first_deployment_that_was_cut_short_and_fails_leaves_nothing(
    cluster: Cluster, run: Callable[..., Any], linear_model: Any, worse: Any
) -> None:
    def act(cluster: Cluster, pod: Any, folder: Any) -> None:
        pod.service, service = "shop-canary", pod.service  # whatever its name
        other(worse)(cluster, pod, folder)
        pod.service = service

    cluster.act = act
    assert run(linear_model, 1) is None
    record = run(linear_model, 9)
    assert record is not None
    assert record["champion"] is False
    assert record["kserve"]["rollback"].startswith(f"the answers are of model {digest(worse)[:12]}")
    assert cluster.live() is None
    assert aliases() == {"challenger": "1"}
