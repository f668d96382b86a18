"""Where a mesh passes through itself, and how it does not begin to."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

Doubles = NDArray[np.float64]
Whole = NDArray[np.int64]

_QUERIES = 10_000  # triangles whose neighbours are looked for together: about 200 MB
_SIZES = 6  # halvings of the largest triangle's size down to which triangles are told apart
_TOUCHING = 1e-9  # of a side: what comes no further through merely touches
_SIDES = ((0, 1), (1, 2), (2, 0))


def crossings(
    vertices: NDArray[np.floating], triangles: NDArray[np.integer], among: NDArray[np.integer] | None = None
) -> Whole:
    """Pairs of triangles, int64 [P, 2], the lower number first, of which a side of one goes through the other, those
    that share a corner left aside; vertices [V, 3], triangles [T, 3]. ``among``: numbers of triangles [K] of which each
    pair has at least one; default: all. What merely touches, or lies in one plane, is not counted."""
    corners = np.asarray(vertices, np.float64)[triangles]  # [T, 3, 3]
    asked = np.arange(len(corners)) if among is None else np.asarray(among)
    near = _near(corners, np.asarray(triangles, np.int64), asked)
    found = [pairs[_crossing(corners, pairs)] for pairs in near]
    return np.unique(np.concatenate([np.zeros((0, 2), np.int64), *found]), axis=0)


def kept_apart(before: Doubles, after: Doubles, triangles: Whole) -> Doubles:
    """Vertices ``after`` a move, [V, 3], changed so that no triangles cross which did not ``before``.

    What crosses, before or after, is moved as one, by the mean of its own moves, and what that crosses joins it; if
    need be until everything moves as one, which crosses nothing new.
    """
    crossing = triangles[crossings(before, triangles)].reshape(-1, 6)
    body, asked = _joined(np.arange(len(before)), crossing), None
    while True:
        result = before + _mean(after - before, body)
        crossing = triangles[crossings(result, triangles, asked)].reshape(-1, 6)
        apart = crossing[(body[crossing] != body[crossing[:, :1]]).any(1)]  # within one body nothing changed
        if not len(apart):
            return result
        body = _joined(body, apart)
        asked = np.flatnonzero((np.bincount(body)[body] > 1)[triangles].any(1))  # the others were looked at


def _mean(moves: Doubles, body: Whole) -> Doubles:
    """The mean move of each vertex's body, [V, 3]."""
    size = np.bincount(body)
    return np.stack([(np.bincount(body, axis) / size)[body] for axis in moves.T], 1)


def _joined(body: Whole, groups: Whole) -> Whole:
    """Numbers of bodies [V] once the vertices of each group [G, 6] belong to one."""
    ends = body[np.stack([np.repeat(groups[:, 0], groups.shape[1]), groups.ravel()])]
    count = int(body.max()) + 1
    merged = connected_components(coo_array((np.ones(ends.shape[1]), ends), shape=(count, count)), directed=False)[1]
    return np.asarray(merged[body], np.int64)


def _near(corners: Doubles, triangles: Whole, asked: Whole) -> Iterator[Whole]:
    """Pairs of triangles, the lower number first, one of them in ``asked``, without a common corner, whose boxes
    overlap; in portions. Looked for by size, or a few large triangles would make every search wide."""
    low, high = corners.min(1), corners.max(1)
    centre, reach = (low + high) / 2, (high - low).max(1) / 2
    sizes = np.ceil(np.log2(np.maximum(reach, reach.max() / 2**_SIZES)))
    groups = [(np.flatnonzero(sizes == size), 2.0**size) for size in np.unique(sizes)]
    trees = [(group, widest, cKDTree(centre[group])) for group, widest in groups]
    for group, widest in groups:
        own = group[np.isin(group, asked)]
        for part in np.array_split(own, len(own) // _QUERIES + 1) if len(own) else ():
            mine = cKDTree(centre[part])
            for others, wide, tree in trees:
                hits = mine.sparse_distance_matrix(tree, widest + wide, p=np.inf, output_type="ndarray")
                one, other = part[hits["i"]], others[hits["j"]]
                overlap = ((low[one] <= high[other]) & (low[other] <= high[one])).all(1) & (one != other)
                pairs = np.sort(np.stack([one, other], 1)[overlap], 1)
                shared = (triangles[pairs[:, 0], :, None] == triangles[pairs[:, 1], None, :]).any((1, 2))
                yield pairs[~shared]


def _crossing(corners: Doubles, pairs: Whole) -> NDArray[np.bool_]:
    one, other = corners[pairs[:, 0]], corners[pairs[:, 1]]
    through = np.zeros(len(pairs), bool)
    for start, end in _SIDES:
        through |= _pierced(one[:, start], one[:, end], other) | _pierced(other[:, start], other[:, end], one)
    return through


def _pierced(start: Doubles, end: Doubles, triangle: Doubles) -> NDArray[np.bool_]:
    """Whether segments [P, 3] to [P, 3] pass through triangles [P, 3, 3]: Moeller and Trumbore 1997."""
    a, ab, ac = triangle[:, 0], triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0]
    ray = end - start
    across = np.cross(ray, ac)
    volume = (ab * across).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):  # parallel: not counted
        away = start - a
        u = (away * across).sum(1) / volume
        turned = np.cross(away, ab)
        v, t = (ray * turned).sum(1) / volume, (ac * turned).sum(1) / volume
        inside: NDArray[np.bool_] = np.minimum.reduce([u, v, 1 - u - v, t, 1 - t]) > _TOUCHING
    return inside
