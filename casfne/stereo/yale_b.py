"""The Extended Yale Face Database B: a folder a person, a grey picture a light, which the file's name says."""

from pathlib import Path

import numpy as np

from casfne.errors import InputError
from casfne.stereo.captures import NOTES, Capture, full_scale, stack
from casfne.stereo.lights import yale_light


def read_yale_b(folder: Path | str) -> Capture:
    """A person: `*A+035E-20.pgm`, one light each, and `*Ambient.pgm`, what the room alone sends, where there is one.

    An ambient picture of another size (the database gives it uncropped) is named in the attribute ``notes`` and left
    out. InputError: no picture under a light, two ambient ones, a name without a light, pictures of several sizes.
    """
    folder = Path(folder)
    lit = sorted(p for p in folder.glob("*.pgm") if "Ambient" not in p.stem)
    if not lit:
        raise InputError(f"{folder}: no image under a light (*A+000E+00.pgm)")
    lights = np.stack([yale_light(p.stem) for p in lit])
    images, ambient, notes = stack(lit), None, {}
    rooms = sorted(folder.glob("*Ambient*.pgm"))
    if len(rooms) > 1:
        raise InputError(f"{folder}: {len(rooms)} ambient images, expected one: {rooms[0].name}, {rooms[1].name}")
    if rooms:
        ambient = stack(rooms)[0]
        if ambient.shape != images.shape[1:] or ambient.dtype != images.dtype:
            height, width = ambient.shape[:2]
            notes[NOTES] = f"{rooms[0].name}: {width}x{height} pixels, not those of the others: not taken off"
            ambient = None
    return Capture(folder.absolute().name, images, lights, full_scale(images), ambient, attributes=notes)
