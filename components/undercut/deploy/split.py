"""How requests split between stable and canary where the split follows replica counts.

In KServe's Standard mode a canary has a fixed number of replicas, and the stable predictor gives up as many
once the canary is ready, but keeps one (``canaryReplicaCount`` and ``adjustStableMinReplicasForCanaries`` in
https://github.com/kserve/kserve/blob/master/pkg/controller/v1beta1/inferenceservice/components/predictor.go).
KServe's own count rounds up; we set the canary's ``minReplicas`` to the count that comes closest.

Where KServe routes by a Gateway, ``trafficPercent`` is the HTTPRoute's weight as well, and the counts are what
each side can bear: a share far from them overloads one of the two. With a plain Ingress, public requests all
go to the stable predictor.
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


def closest(minimum: int, percent: int) -> Split:
    """Return the attainable split that comes closest to ``percent`` with ``minimum`` replicas of the stable one."""
    if percent == 0:
        return Split(wished=0.0, attained=0.0, replicas=1, stable=max(minimum - 1, 1), minimum=minimum)
    splits = []
    for replicas in range(1, minimum + 1):
        stable = max(minimum - replicas, 1)
        attained = 100 * replicas / (replicas + stable)
        splits.append(
            Split(wished=float(percent), attained=attained, replicas=replicas, stable=stable, minimum=minimum)
        )
    return min(splits, key=lambda split: abs(split.attained - percent))


def plan(minimum: int, percent: int, rule: str) -> Split:
    """Return the split, with more replicas where the rule is ``raise`` and the wish would be missed.

    Args:
        minimum: replicas that always run.
        percent: the canary's wished share.
        rule: ``exact`` or ``raise``.

    Raises:
        ConfigurationError: the replicas miss the wish by more than five points (``exact``), or any number up
            to a hundred does.
    """
    found = closest(minimum, percent)
    if abs(found.attained - percent) <= TOLERANCE:
        return found
    better = (closest(more, percent) for more in range(minimum + 1, MOST + 1))
    raised = next((split for split in better if abs(split.attained - percent) <= TOLERANCE), None)
    if rule == "raise" and raised is not None:
        return raised
    allowed = f"a share that {minimum} replicas come within 5 points of (the closest is {found.attained:.0f})"
    enough = f"min_replicas {raised.minimum} is enough: set it, or split to raise" if raised else "Take another share"
    raise ConfigurationError("canary_percent", percent, allowed, enough)
