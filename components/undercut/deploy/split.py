"""How many pods a canary gets in KServe's Standard mode, and what share of all pods that is.

The stable predictor keeps the pods that always run; the canary's come on top. KServe takes the canary's replicas
off the stable predictor's ``minReplicas``, but leaves one (``canaryReplicaCount`` and
``adjustStableMinReplicasForCanaries`` in
https://github.com/kserve/kserve/blob/master/pkg/controller/v1beta1/inferenceservice/components/predictor.go; 0.20.0
at once, later versions when the canary is ready). So we ask for both together.

The pods' share is not the requests' share. As KServe's controller is written, requests come to the canary

- never through the Service ``NAME-predictor`` in the cluster, nor through a plain Ingress: both lead to the stable
  predictor's pods alone (a Service selects ``app: isvc.NAME-predictor``);
- through a Gateway, never in 0.20.0; in later versions by ``trafficPercent``, which is the HTTPRoute's weight
  (``applyCanaryWeights``), whatever the replicas;
- by the pods' share, through a Service of one's own that selects ``serving.kserve.io/inferenceservice: NAME``.

(Istio's VirtualServices are for the mode Knative.) With weights, a share of the pods near the wish is what lets the
canary bear the requests that it gets.
"""

from dataclasses import dataclass

from undercut.errors import ConfigurationError

TOLERANCE = 5.0
MOST = 100


@dataclass(frozen=True, kw_only=True)
class Split:
    """A canary's share: ``wished`` and ``attained`` in percent, its ``replicas``, and ``minimum`` of both together.

    ``stable`` is how many replicas the stable predictor keeps while the canary runs.
    """

    wished: float
    attained: float
    replicas: int
    stable: int
    minimum: int

    @property
    def missed(self) -> bool:
        """Return whether the share is more than five points from the wish."""
        return abs(self.attained - self.wished) > TOLERANCE


def _split(stable: int, replicas: int, percent: int) -> Split:
    together = stable + replicas
    attained = 100 * replicas / together if percent else 0.0  # unseen, the canary has no share
    return Split(wished=float(percent), attained=attained, replicas=replicas, stable=stable, minimum=together)


def closest(stable: int, percent: int) -> Split:
    """Return the split that comes closest to ``percent`` with as many canary pods as stable ones at most."""
    splits = [_split(stable, replicas, percent) for replicas in range(1, stable + 1)]
    return min(splits, key=lambda split: abs(split.attained - percent))


def plan(minimum: int, percent: int, rule: str) -> Split:
    """Return the split, with more replicas where the rule is ``raise`` and the wish would be missed.

    Args:
        minimum: replicas that always run; the stable predictor never has fewer.
        percent: the canary's wished share.
        rule: ``exact`` or ``raise``.

    Raises:
        ConfigurationError: the replicas miss the wish by more than five points (``exact``), or any number up
            to a hundred does.
    """
    found = closest(minimum, percent)
    if not found.missed:
        return found
    raised = _raised(minimum, percent)
    if rule == "raise" and raised is not None:
        return raised
    enough = next((more for more in range(minimum + 1, MOST // 2 + 1) if not closest(more, percent).missed), None)
    allowed = f"a share that {minimum} replicas come within 5 points of (the closest is {found.attained:.0f})"
    remedies = [f"min_replicas {enough} is enough: set it"] if enough else []
    remedies += ["set split to raise"] if raised else []
    raise ConfigurationError("canary_percent", percent, allowed, ", or ".join(remedies) or "Take another share")


def _raised(minimum: int, percent: int) -> Split | None:
    """Return the split of the fewest pods, at most a hundred, that does not miss the wish; None if there is none."""
    for together in range(minimum + 1, MOST + 1):
        splits = [_split(stable, together - stable, percent) for stable in range(minimum, together)]
        best = min(splits, key=lambda split: abs(split.attained - percent))
        if not best.missed:
            return best
    return None
