"""Portraits to look at: a contact sheet, and what a set of them is made of in numbers."""

from typing import Any

import torch
from torch import Tensor

from casfne.capture.lighting.material import BACKGROUND, CLASSES, FACE_CLASS
from casfne.capture.portraits import Portraits

_LUMINANCE = (0.2126, 0.7152, 0.0722)  # of linear sRGB
_QUANTILES = {"p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}


def contact_sheet(portraits: Portraits, columns: int) -> Tensor:
    """Each portrait and, right of it, its normals; uint8 RGB [H, W, 3], ``columns`` portraits a row."""
    seen = portraits.classes != BACKGROUND
    normals = torch.where(seen, (portraits.normal + 1) * 127.5, 128.0).round().to(torch.uint8)
    pairs = torch.cat([portraits.image, normals], -1)
    empty = -len(pairs) % columns
    pairs = torch.cat([pairs, pairs.new_full((empty, *pairs.shape[1:]), 255)])
    rows = pairs.view(-1, columns, *pairs.shape[1:])  # [R, columns, 3, S, 2 S]
    return rows.permute(0, 3, 1, 4, 2).reshape(len(rows) * pairs.shape[2], -1, 3).contiguous().cpu()


def statistics(portraits: Portraits) -> dict[str, Any]:
    """Quantiles over the portraits of pose, of the strongest light, of the skin's tone and of the face's brightness,
    and the mean share of each class.

    Angles in degrees. Light: its azimuth (to the right) and elevation, and the share of portraits that it lights from
    behind; skin: CIE lightness L* of the albedo, the mean over the face; brightness: the face's mean, of 255.
    """
    face = (portraits.classes == FACE_CLASS).float()
    pixels = face.sum((1, 2, 3)).clamp_min(1)
    weight = torch.tensor(_LUMINANCE, device=face.device).view(1, 3, 1, 1)
    albedo = ((portraits.albedo * weight).sum(1, keepdim=True) * face).sum((1, 2, 3)) / pixels
    grey = (portraits.image.float().mean(1, keepdim=True) * face).sum((1, 2, 3)) / pixels
    strongest = portraits.lights.colour.sum(-1).argmax(1)
    x, y, z = portraits.lights.place[torch.arange(len(strongest)), strongest].unbind(-1)
    angles = dict(zip(("yaw_deg", "pitch_deg", "roll_deg"), portraits.angles_deg.unbind(-1), strict=True))
    azimuth, elevation = torch.atan2(x, z).rad2deg(), torch.atan2(y, (x * x + z * z).sqrt()).rad2deg()
    values = angles | {"light_azimuth_deg": azimuth, "light_elevation_deg": elevation}
    values |= {"skin_lightness": 116 * albedo.clamp_min(0.0089) ** (1 / 3) - 16, "face_brightness": grey}
    shares = [(portraits.classes == number).float().mean().item() for number in range(len(CLASSES))]
    return {
        "portraits": len(grey),
        **{name: _quantiles(v) for name, v in values.items()},
        "lit_from_behind": (z < 0).float().mean().item(),
        "coverage": dict(zip(CLASSES, shares, strict=True)),
    }


def _quantiles(values: Tensor) -> dict[str, float]:
    return {name: round(values.quantile(at).item(), 2) for name, at in _QUANTILES.items()}
