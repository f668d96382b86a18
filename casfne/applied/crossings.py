"""Where a mesh passes through itself, and how it does not begin to."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

Doubles = NDArray[np.float64]
Whole = NDArray[np.int64]

_PAIRS = 1_000_000  # of triangles that are looked at together: about 200 MB
_SIZES = 20  # halvings of the largest triangle's size down to which triangles are told apart
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
    body, last = _joined(np.arange(len(before)), crossing), before
    while True:
        result = before + _mean(after - before, body)
        changed = (result != last).any(1)[triangles].any(1)  # the others were looked at
        crossing = triangles[crossings(result, triangles, np.flatnonzero(changed))].reshape(-1, 6)
        apart = crossing[(body[crossing] != body[crossing[:, :1]]).any(1)]  # within one body nothing changed
        if not len(apart):
            return result
        body, last = _joined(body, apart), result


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
    overlap; each once, in portions."""
    low, high = corners.min(1), corners.max(1)
    for found in _close((low + high) / 2, (high - low).max(1) / 2, asked):
        for pairs in np.array_split(found, len(found) // _PAIRS + 1):
            one, other = pairs.T
            pairs = np.sort(pairs[((low[one] <= high[other]) & (low[other] <= high[one])).all(1)], 1)
            shared = (triangles[pairs[:, 0], :, None] == triangles[pairs[:, 1], None, :]).any((1, 2))
            yield pairs[~shared]


def _close(centre: Doubles, reach: Doubles, asked: Whole) -> Iterator[Whole]:
    """Pairs [P, 2] of boxes, one of them in ``asked``, that are near enough to overlap; each once. Looked for by size,
    or a few large ones would make every search wide."""
    sizes = np.ceil(np.log2(np.maximum(reach, reach.max() / 2**_SIZES)))
    wanted = np.isin(np.arange(len(reach)), asked)
    groups = [(2.0**size, np.flatnonzero(sizes == size)) for size in np.unique(sizes)]
    parts = [(w, some, cKDTree(centre[some])) for w, g in groups for some in (g[wanted[g]], g[~wanted[g]]) if len(some)]
    for k, (wide, mine, tree) in enumerate(parts):
        if wanted[mine[0]]:
            yield mine[tree.query_pairs(2 * wide, p=np.inf, output_type="ndarray")]
        for wide_too, others, another in parts[:k]:
            if wanted[mine[0]] or wanted[others[0]]:
                hits = tree.sparse_distance_matrix(another, wide + wide_too, p=np.inf, output_type="ndarray")
                yield np.stack([mine[hits["i"]], others[hits["j"]]], 1)


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
