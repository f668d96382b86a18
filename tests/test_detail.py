"""Fine relief: its heights agree with its slopes, and its normals with those of a surface really moved."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from casfne.capture.draws import Draws
from casfne.capture.people.detail import displaced, relief, relief_normals
from casfne.capture.people.fields import FIELDS
from casfne.capture.people.looks import sample_looks

STILL = SimpleNamespace(weight=lambda expression, name: expression[:, 0])


def angle_deg(a, b):
    """Between unit vectors, [N]."""
    return 2 * torch.rad2deg(torch.asin(((a - b).norm(dim=-1) / 2).clamp(max=1)))


def looks_of(count, **change):
    looks = sample_looks(STILL, torch.zeros(count, 1), Draws(torch.arange(count)))
    return dataclasses.replace(looks, **{name: torch.full((count,), value) for name, value in change.items()})


@pytest.mark.parametrize("stretch", [1.0, 1.4])
def test_normals_of_a_bumpy_sphere(stretch):
    """Edges are any two steps along the sphere; the moved sphere's normals come from its own derivatives in float64."""

    def ball(u, v):
        direction = torch.stack([u.cos() * v.sin(), u.sin(), u.cos() * v.cos()], -1)
        return direction * torch.tensor([0.1 * stretch, 0.1, 0.1], dtype=torch.float64)

    def bump(u, v):
        return 0.00012 * torch.sin(60 * u) * torch.cos(45 * v)

    def normal(surface, u, v):
        step = 1e-5
        a = surface(u + step, v) - surface(u - step, v)
        b = surface(u, v + step) - surface(u, v - step)
        return functional.normalize(torch.linalg.cross(b, a), dim=-1)

    def moved(u, v):
        return ball(u, v) + bump(u, v)[:, None] * normal(ball, u, v)

    generator = torch.Generator().manual_seed(0)
    u, v = torch.rand(2, 2000, generator=generator, dtype=torch.float64) * 1.6 - 0.8
    smooth, truth = normal(ball, u, v), normal(moved, u, v)
    turn = torch.rand(2000, generator=generator, dtype=torch.float64) * 6
    step = 1e-6
    edges, rise = [], []
    for angle in (turn, turn + 1.2):
        du, dv = step * angle.cos(), step * angle.sin()
        edges.append((ball(u + du, v + dv) - ball(u - du, v - dv)) / (2 * step) * 0.002)
        rise.append((bump(u + du, v + dv) - bump(u - du, v - dv)) / (2 * step) * 0.002)
    found = displaced(smooth.float(), torch.stack(edges).float(), torch.stack(rise).float())
    assert angle_deg(smooth, truth).max() > 3  # the bumps matter
    assert angle_deg(found.double(), truth).max() < 0.5


def test_level_relief_and_degenerate_triangles_leave_normals():
    normals = functional.normalize(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    edges = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(displaced(normals, edges, torch.zeros(2, 6)), normals)
    edges[1] = 2 * edges[0]
    torch.testing.assert_close(displaced(normals, edges, torch.ones(2, 6)), normals)
    torch.testing.assert_close(displaced(normals, 0 * edges, torch.ones(2, 6)), normals)


def test_steep_relief_is_held():
    up = torch.tensor([[0.0, 0.0, 1.0]])
    found = displaced(up, torch.eye(3)[:2, None], torch.tensor([[100.0], [0.0]]))
    assert found[0, 0] < 0 and math.degrees(math.acos(float(found[0, 2]))) < 51


def plane(fields_of, size=0.03, cells=300):
    """A square of the x-y plane as a fine mesh: vertices, triangles, fields by name from x and y."""
    line = torch.linspace(-size / 2, size / 2, cells + 1, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    vertices = torch.stack([x, y, torch.zeros_like(x)], -1).view(-1, 3)
    field = torch.zeros(len(vertices), len(FIELDS), dtype=torch.float64)
    field[:, FIELDS.index("lips")] = field[:, FIELDS.index("lid")] = 0.1
    field[:, FIELDS.index("brow_along")] = -5
    for name, value in fields_of(*vertices[:, :2].unbind(-1)).items():
        field[:, FIELDS.index(name)] = value
    at = torch.arange(len(vertices)).view(cells + 1, -1)
    corners = torch.stack([at[:-1, :-1], at[:-1, 1:], at[1:, :-1]], -1).view(-1, 3)
    return vertices, corners, field.float()


def mixed(values, corners):
    return values[corners].mean(1)


CASES = {
    "forehead": lambda x, y: {"forehead": y, "forehead_zone": 1.0, "narrow_0": torch.sin(300 * x), "wide_1": 1.0},
    "fold": lambda x, y: {"fold": 0.8 * x + 0.6 * y, "fold_zone": 1.0, "narrow_2": torch.sin(200 * y)},
    "eye": lambda x, y: {"lid": 0.015 + y, "bag_zone": 1.0, "crow": x, "crow_zone": 1.0},
    "neck": lambda x, y: {"neck": 0.03 + y, "wide_0": torch.sin(100 * x)},
    "glabella": lambda x, y: {"glabella_zone": 1.0},
}


@pytest.mark.parametrize("case", CASES)
def test_slopes_agree_with_heights(case):
    """The rise along an edge is the difference of heights at its two ends."""
    found, across, up = slopes_and_differences(
        case, looks_of(1, raised=1.0, frown=1.0, smile=1.0, squint=1.0, bags=1.0, age=0.9, grain=0.0, pimples=0.0)
    )
    for one, other in ((found[0], across), (found[1], up)):
        error = torch.rad2deg(torch.atan(one) - torch.atan(other)).abs()
        assert torch.quantile(error.flatten()[::7], 0.98) < 0.5, case
    assert torch.atan((across.square() + up.square()).sqrt()).rad2deg().max() > 3, "nothing to see"


@pytest.mark.parametrize("zone", ["ear", "jaw", "cheek"])
def test_slopes_of_grain_agree_with_its_heights(zone):
    """Heights are looked up with facets, slopes are smooth: they agree but for the facets' edges."""
    CASES["zone"] = lambda x, y: {zone: 1.0}
    found, across, up = slopes_and_differences("zone", looks_of(1, jaw=0.9, beard_length=0.002, pimples=0.5, age=0.0))
    for one, other in ((found[0], across), (found[1], up)):
        both = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))
        assert both[0, 1] > 0.97
        assert 0.9 < one.std() / other.std() < 1.15


def slopes_and_differences(case, looks):
    """Rises per metre in x and y [2, ...] and what differences of heights say they are."""
    vertices, _, field = plane(CASES[case])
    count = len(vertices)
    sample, footprint = torch.zeros(count).long(), torch.full((count,), 0.0005)
    place = vertices.float()
    steps = torch.zeros(2, count, 3)
    steps[0, :, 0] = steps[1, :, 1] = 1.0  # rise per metre in x and in y
    cells = math.isqrt(count) - 1
    grid = field.view(cells + 1, cells + 1, -1)
    gap = 0.03 / cells
    field_steps = torch.stack([torch.gradient(grid, spacing=gap, dim=d)[0].reshape(count, -1) for d in (1, 0)])
    found = relief(place, field, steps, field_steps, sample, looks, footprint)
    height = found.height.double().view(cells + 1, cells + 1)
    across, up = (torch.gradient(height, spacing=gap, dim=d)[0] for d in (1, 0))
    inner = (slice(3, -3), slice(3, -3))
    rise = found.rise.view(2, cells + 1, cells + 1).double()
    return rise[:, *inner], across[inner], up[inner]


def test_normals_of_a_plane_really_moved():
    """Triangles of a fine plane, lifted by the heights at their corners, have the normals that relief gives."""
    vertices, corners, field = plane(CASES["forehead"])
    looks = looks_of(1, raised=1.0, age=0.9, pimples=0.0, grain=0.0)
    sample = torch.zeros(len(vertices)).long()
    level = torch.zeros(2, len(vertices), 3)
    footprint = torch.full((len(vertices),), 0.0006)
    none = torch.zeros(2, len(vertices), len(FIELDS))
    height = relief(vertices.float(), field, level, none, sample, looks, footprint).height
    lifted = vertices.clone()
    lifted[:, 2] = height.double()
    a, b, c = lifted[corners].unbind(1)
    truth = functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
    place = vertices.float()
    found = relief_normals(
        torch.tensor([0.0, 0.0, 1.0]).expand(len(corners), 3),
        corners,
        place[None],
        place,
        field,
        mixed(place, corners),
        mixed(field, corners),
        sample[: len(corners)],
        looks,
        footprint[: len(corners)],
    )
    error = angle_deg(found.double(), truth)
    assert angle_deg(torch.tensor([0.0, 0.0, 1.0]), truth).max() > 5
    assert error.mean() < 0.1 and torch.quantile(error[::7], 0.99) < 0.5


def normals_of(looks, sample, posed, footprint=0.0006):
    vertices, corners, field = plane(CASES["forehead"], cells=40)
    corners, sample = corners.repeat(len(sample), 1), torch.as_tensor(sample).repeat_interleave(len(corners))
    place = vertices.float()
    return relief_normals(
        torch.tensor([0.0, 0.0, 1.0]).expand(len(corners), 3),
        corners,
        posed(place),
        place,
        field,
        mixed(place, corners),
        mixed(field, corners),
        sample,
        looks,
        torch.full((len(corners),), footprint),
    )


def test_relief_turns_with_the_head_and_flattens_where_skin_is_stretched():
    looks = looks_of(2, raised=1.0)
    spread = torch.stack([torch.ones(3), torch.full((3,), 2.0)])[:, None]
    plain = normals_of(looks_of(1, raised=1.0), [0], lambda p: p[None])
    wide = normals_of(looks_of(1, raised=1.0), [0], lambda p: 2 * p[None])
    torch.testing.assert_close(wide[:, :2] / wide[:, 2:], plain[:, :2] / plain[:, 2:] / 2, atol=1e-5, rtol=1e-4)
    both = normals_of(looks, [0, 1], lambda p: p * spread)
    torch.testing.assert_close(both[: len(plain)], plain)


def test_coarse_pixels_see_less():
    looks = looks_of(1, raised=0.0, frown=0.0, age=0.0, bags=0.0, pimples=0.0)
    fine, coarse = (normals_of(looks, [0], lambda p: p[None], footprint) for footprint in (2e-4, 5e-3))
    tilt = [found[:, :2].norm(dim=-1).mean() for found in (fine, coarse)]
    assert tilt[1] < 0.5 * tilt[0]


def test_corners_of_another_shape_are_refused():
    one = torch.zeros(4, 3)
    with pytest.raises(ValueError, match=r"expected three \[N, 3\]"):
        relief_normals(one, one[:2].long(), one[None], one, one, one, one, one[:, 0].long(), looks_of(1), one[:, 0])
