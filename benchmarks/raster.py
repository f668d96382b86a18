"""The capture studio's rasteriser and its shadow maps, against a loop over triangles; on one thread.

`python -m benchmarks.raster` prints the figures.
"""

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks import Result
from casfne.capture.lighting.shadows import Lights, visibility
from casfne.capture.optics.camera import Camera
from casfne.capture.optics.raster import nearest, vertex_normals
from casfne.model.timing import machine, timings

SIZE, TEXELS, ROUNDS = 256, 512, 15
RINGS, AROUND = 110, 222  # 48,840 triangles: those of a head that is fit for training
LOOPED = 2_000  # of them, drawn one by one: time enough to be measured
DISTANCE, FOCAL = 1.2, 1100.0  # metres and pixels: the ellipsoid fills the picture as a head does
SETTING = f"{2 * RINGS * AROUND:,} triangles of an ellipsoid, one thread"
ONE_SIDED = torch.zeros(2 * RINGS * AROUND, dtype=torch.bool)


def run() -> list[Result]:
    """Milliseconds of one picture and of four lights' shadows, and how much faster than a loop a pass is."""
    vertices, triangles = ellipsoid()
    view = camera()
    hits = view.see(vertices, triangles, ONE_SIDED)
    normals = torch.nn.functional.normalize(hits.mix(vertex_normals(vertices, triangles), triangles), dim=-1)
    points, of = hits.mix(vertices, triangles), four_lights()
    maps = shadow_screens(vertices)
    tasks = {
        "pass": lambda: view.see(vertices, triangles, ONE_SIDED),
        "maps": lambda: nearest(maps, triangles, TEXELS),
        "shadows": lambda: visibility(points, normals, hits.sample, vertices, triangles, of, TEXELS),
        "normals": lambda: vertex_normals(vertices, triangles),
    }
    with one_thread(), torch.inference_mode():
        ms = {name: 1e3 * min(seconds) for name, seconds in timings(tasks, ROUNDS).items()}
    four = f"4 lights, {TEXELS} texels, {SETTING}"
    return [
        Result("raster_pass_ms", ms["pass"], "ms", f"{SIZE}x{SIZE}, {len(points):,} pixels covered; {SETTING}"),
        Result("raster_shadow_maps_ms", ms["maps"], "ms", f"both sides; {four}"),
        Result("raster_shadows_ms", ms["shadows"], "ms", f"maps and soft shadows at {len(points):,} points; {four}"),
        Result("raster_vertex_normals_ms", ms["normals"], "ms", SETTING),
        raster_vs_loop(),
    ]


def raster_vs_loop() -> Result:
    """Triangles a second of a pass over those of a loop that draws one after the other, both in one run.

    The loop draws ``LOOPED`` triangles, spread over the mesh, and is scaled to all of them.
    """
    vertices, triangles = ellipsoid()
    view = camera()
    screen, some = view.project(vertices)[0], triangles[:: len(triangles) // LOOPED][:LOOPED]
    tasks = {"pass": lambda: view.see(vertices, triangles, ONE_SIDED), "loop": lambda: loop(screen, some)}
    with one_thread(), torch.inference_mode():
        seconds = {name: min(times) for name, times in timings(tasks, 3).items()}
    ratio = seconds["loop"] / len(some) * len(triangles) / seconds["pass"]
    return Result("raster_vs_loop", ratio, "ratio", f"to {LOOPED:,} triangles one by one, scaled; {SETTING}")


def loop(screen: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor]:
    """One triangle after the other, as plain torch: triangle [H, W], -1 for none, and nearness. Front faces alone."""
    nearness = torch.full((SIZE, SIZE), -torch.inf, dtype=torch.float64)
    winner = torch.full((SIZE, SIZE), -1)
    for index, corners in enumerate(screen.double()[triangles]):
        low = corners[:, :2].amin(0).ceil().clamp_min(0).int().tolist()
        high = corners[:, :2].amax(0).floor().clamp_max(SIZE - 1).int().tolist()
        (ax, ay, _), (bx, by, _), (cx, cy, _) = corners.tolist()
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area >= 0 or low[0] > high[0] or low[1] > high[1]:
            continue
        x, y = torch.arange(low[0], high[0] + 1) - ax, (torch.arange(low[1], high[1] + 1) - ay)[:, None]
        second = (x * (cy - ay) - y * (cx - ax)) / area
        third = (y * (bx - ax) - x * (by - ay)) / area
        first = 1 - second - third
        box = (slice(low[1], high[1] + 1), slice(low[0], high[0] + 1))
        near = first * corners[0, 2] + second * corners[1, 2] + third * corners[2, 2]
        wins = (torch.minimum(torch.minimum(first, second), third) >= 0) & (near > nearness[box])
        nearness[box] = torch.where(wins, near, nearness[box])
        winner[box] = torch.where(wins, index, winner[box])
    return winner, nearness


# --- what is drawn ---


def ellipsoid() -> tuple[Tensor, Tensor]:
    """As large as a head, vertices [1, V, 3] in metres."""
    points, triangles = ball(RINGS, AROUND)
    return points * torch.tensor([0.09, 0.13, 0.11]), triangles


def ball(rings: int, around: int) -> tuple[Tensor, Tensor]:
    """Of radius 1: vertices [1, V, 3] and triangles [T, 3], quads cut in two, counter-clockwise from outside."""
    polar = torch.linspace(0, torch.pi, rings + 1)[:, None]
    turn = torch.arange(around) * (2 * torch.pi / around)
    points = torch.stack([polar.sin() * turn.cos(), polar.cos().expand(-1, around), -polar.sin() * turn.sin()], -1)
    i, j = torch.meshgrid(torch.arange(rings), torch.arange(around), indexing="ij")
    a, b = i * around + j, i * around + (j + 1) % around
    c, d = a + around, b + around
    triangles = torch.cat([torch.stack([a, c, b], -1).view(-1, 3), torch.stack([b, c, d], -1).view(-1, 3)])
    return points.view(1, -1, 3), triangles


def camera() -> Camera:
    """Of a portrait."""
    middle = torch.full((1, 2), (SIZE - 1) / 2)
    return Camera(torch.tensor([DISTANCE]), torch.tensor([FOCAL]), middle, SIZE, SIZE)


def four_lights() -> Lights:
    """Three distant and one near, each as large as a studio's."""
    turn = torch.arange(4) * (math.pi / 2) + 0.5
    place = torch.stack([0.6 * turn.cos(), 0.6 * turn.sin(), torch.full((4,), 0.8)], -1)[None]
    near = torch.tensor([[False, False, False, True]])
    return Lights(place, near, torch.ones(1, 4, 3), torch.full((1, 4), 0.1), torch.zeros(1, 9, 3))


def shadow_screens(vertices: Tensor) -> Tensor:
    """The mesh [4, V, 3] as four distant lights see it, in a map's texels."""
    turned = []
    for angle in range(4):
        cos, sin = math.cos(angle), math.sin(angle)
        x, y, z = vertices[0].unbind(-1)
        turned.append(torch.stack([cos * x + sin * z, -y, cos * z - sin * x], -1))
    scale = torch.tensor([TEXELS / 0.27, TEXELS / 0.27, 1.0])
    return torch.stack(turned) * scale + torch.tensor([TEXELS / 2, TEXELS / 2, 0.0])


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread, and as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def main() -> None:
    """The figures of this machine."""
    print(machine())
    for result in run():
        print(f"{result.name:26} {result.value:10.2f} {result.unit:6} {result.what}")


if __name__ == "__main__":
    main()
