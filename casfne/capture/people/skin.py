"""The colour of skin from what is in it: melanin in the epidermis, blood in the dermis."""

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

MELANIN = (0.013, 0.43)  # volume fraction of melanosomes in the epidermis, lightest to darkest (Jacques 1998)
BLOOD = (0.002, 0.12)  # volume fraction of blood: skin 0.002..0.07 (Jacques 1998), the red of the lips above that

# cm^-1 per mole/litre: oxy- and deoxyhaemoglobin by wavelength in nm (values tabulated by Prahl, 1999)
_HAEMOGLOBIN = {
    440: (102580.0, 413280.0),
    450: (62816.0, 103292.0),
    460: (44480.0, 23388.8),
    470: (33209.2, 16156.4),
    510: (20035.2, 25773.6),
    530: (39956.8, 39036.4),
    550: (43016.0, 53412.0),
    570: (44496.0, 45072.0),
    590: (14400.8, 28324.4),
    600: (3200.0, 14677.2),
    620: (942.0, 6509.6),
    630: (610.0, 5148.8),
    650: (368.0, 3750.12),
}
_BANDS = ((590, 600, 620, 630, 650), (510, 530, 550, 570), (440, 450, 460, 470))  # nm that stand for R, G, B
_BLOOD_MOLAR = 2.303 * 150 / 64_500  # ln 10 * g/litre / g/mole: extinction to absorption of whole blood
_YELLOW = (460, 34.0, 2.0)  # bilirubin and carotene in the dermis: peak and width in nm, cm^-1 at the peak
_OXYGEN = 0.75  # share of oxyhaemoglobin, between veins and arteries
_VESSEL_CM = 0.0010  # mean radius of vessels: blood within a vessel shades itself (Verkruysse 1993)
_MELANIN_WAY_CM = 0.0102  # in and out through the layer that holds melanin
_BACK = 0.04  # what melanosomes send back at most, themselves scatterers
_ENTRY, _INSIDE = 0.028, 0.22  # reflectance of the surface from outside and, for diffuse light, from inside
_STEPS = (48, 24)  # entries of the table along melanin and blood


def reflectance(melanin: Tensor, blood: Tensor) -> Tensor:
    """Linear RGB albedo [N, 3] under white light, from a table.

    melanin, blood float32 [N]: volume fractions, held within ``MELANIN`` and ``BLOOD``.
    """
    place = torch.stack([_share(blood, BLOOD), _share(melanin, MELANIN)], -1) * 2 - 1
    table = _table(melanin.device)
    found = functional.grid_sample(table, place.view(1, 1, -1, 2), padding_mode="border", align_corners=True)
    return found[0, :, 0].T


def skin_colour(melanin: Tensor, blood: Tensor) -> Tensor:
    """What `reflectance` looks up, in full: linear RGB [N, 3]."""
    bands = [torch.stack([_spectral(nm, melanin, blood) for nm in band]).mean(0) for band in _BANDS]
    return torch.stack(bands, -1)


def _share(value: Tensor, limits: tuple[float, float]) -> Tensor:
    """Where between the limits, on a logarithmic scale, 0..1."""
    low, high = torch.tensor(limits).log().tolist()
    return ((value.clamp_min(1e-4).log() - low) / (high - low)).clamp(0, 1)


@cache
def _table(device: torch.device) -> Tensor:
    """[1, 3, melanin, blood], both spaced evenly in their logarithms."""
    melanin = MELANIN[0] * (MELANIN[1] / MELANIN[0]) ** torch.linspace(0, 1, _STEPS[0])
    blood = BLOOD[0] * (BLOOD[1] / BLOOD[0]) ** torch.linspace(0, 1, _STEPS[1])
    colours = skin_colour(melanin[:, None].expand(_STEPS), blood.expand(_STEPS))
    return colours.permute(2, 0, 1)[None].contiguous().to(device)


def _spectral(nm: int, melanin: Tensor, blood: Tensor) -> Tensor:
    """Diffuse reflectance at one wavelength: epidermis twice, dermis by Kubelka and Munk, the surface by Saunderson."""
    baseline = 0.244 + 85.3 * math.exp(-(nm - 154) / 66.2)  # cm^-1, tissue without pigments (Jacques 1998)
    epidermis = melanin * 6.6e11 * nm**-3.33 + (1 - melanin) * baseline
    oxy, deoxy = _HAEMOGLOBIN[nm]
    dermis = blood * _packed(_BLOOD_MOLAR * (_OXYGEN * oxy + (1 - _OXYGEN) * deoxy)) + (1 - blood) * baseline
    dermis = dermis + _YELLOW[2] * math.exp(-(((nm - _YELLOW[0]) / _YELLOW[1]) ** 2))
    passed = torch.exp(-_MELANIN_WAY_CM * epidermis)
    inner = passed * _semi_infinite(dermis, nm) + (1 - passed) * _BACK
    return (1 - _ENTRY) * (1 - _INSIDE) * inner / (1 - _INSIDE * inner)


def _packed(absorption: float) -> float:
    """Blood's absorption in cm^-1 as it acts when it is packed into vessels, not spread evenly."""
    across = 2 * _VESSEL_CM * absorption
    return absorption * (1 - math.exp(-across)) / across


def _semi_infinite(absorption: Tensor, nm: int) -> Tensor:
    """Kubelka and Munk's reflectance of thick tissue; absorption in cm^-1."""
    scattering = 46.0 * (nm / 500) ** -1.421  # cm^-1, reduced; skin, mean of Jacques' review of 2013
    ratio = 2 * absorption / (0.75 * scattering)
    return 1 + ratio - (ratio**2 + 2 * ratio).sqrt()
