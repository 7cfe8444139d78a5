"""Where to write the names of points so that they cover neither each other nor what is drawn.

Each name in turn goes where it covers least of what is there, among places around its point, near ones
first; after a few turns nobody moves any more (coordinate descent; Christensen, Marks & Shieber 1995
compare such methods, and for the handful of names here the simplest one does).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

SWEEPS = 4
DISTANCES = (11.0, 20.0, 32.0, 46.0, 64.0)
DIRECTIONS = tuple(math.radians(a) for a in (0, 180, 90, 270, 35, 325, 145, 215, 60, 300, 120, 240))


@dataclass(frozen=True)
class Box:
    """A rectangle, in pixels: left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """Return the area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    def outside(self, frame: "Box") -> float:
        """Return the area that lies out of ``frame``."""
        return (self.right - self.left) * (self.bottom - self.top) - self.overlap(frame)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A name's box, and whether it is farther from its point than it need be."""

    box: Box
    far: bool


def place(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], obstacles: Sequence[Box], frame: Box
) -> list[Place]:
    """Place a name at each point.

    Args:
        points: the points.
        sizes: width and height of each name.
        obstacles: what had better not be covered: markers, error bars, other texts.
        frame: where names may stand.
    """
    choices = [_places(point, size) for point, size in zip(points, sizes, strict=True)]
    # What a place covers of the drawing does not change; what it covers of other names does.
    fixed = [[_cost(p, obstacles, frame) for p in places] for places in choices]
    chosen = [costs.index(min(costs)) for costs in fixed]
    for _ in range(SWEEPS):
        before = list(chosen)
        for i, places in enumerate(choices):
            others = [choices[j][chosen[j]].box for j in range(len(points)) if j != i]
            costs = [cost + 20 * _covered(p, others) for p, cost in zip(places, fixed[i], strict=True)]
            chosen[i] = costs.index(min(costs))
        if chosen == before:
            break
    return [places[k] for places, k in zip(choices, chosen, strict=True)]


def _places(point: tuple[float, float], size: tuple[float, float]) -> list[Place]:
    """Return places around a point, the best first."""
    (x, y), (width, height) = point, size
    found = []
    for distance in DISTANCES:
        for angle in DIRECTIONS:
            across, down = math.cos(angle), -math.sin(angle)
            centre_x = x + across * (distance + width / 2 * min(1.0, abs(across) * 1.4))
            centre_y = y + down * (distance + height / 2)
            box = Box(centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)
            found.append(Place(box=box, far=distance > DISTANCES[0]))
    return found


def _covered(place: Place, boxes: Sequence[Box]) -> float:
    return sum(place.box.overlap(box) for box in boxes)


def _cost(place: Place, obstacles: Sequence[Box], frame: Box) -> float:
    return 50 * place.box.outside(frame) + 4 * _covered(place, obstacles) + (30 if place.far else 0)
