"""How heads of women differ from those of men: a direction among a model's components, found from its landmarks."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from casfne.capture.draws import Draws

# (landmarks, landmarks less, axis, weight): of the mean place of the first less that of the second, what women have
# more of; signs as in Farkas's anthropometry of the head (1994), weights by eye
_TRAITS = (
    ((35,), (31,), 0, -1.0),  # breadth of the nose
    ((30,), (31, 35), 2, -0.7),  # how far it stands out
    ((27,), (33,), 1, -0.6),  # and its height
    ((11, 12), (4, 5), 0, -1.2),  # breadth of the jaw
    ((57,), (8,), 1, -1.0),  # height of the chin
    ((18, 19, 24, 25), (37, 38, 43, 44), 2, -1.0),  # ridge of the brows
    ((18, 19, 24, 25), (37, 38, 43, 44), 1, 1.0),  # height of the brows over the eyes
    ((37, 38, 43, 44), (41, 40, 47, 46), 1, 0.8),  # openness of the eyes
    ((51, 66), (62, 57), 1, 0.7),  # fullness of the lips
)


def sample_sex(draws: Draws) -> Tensor:
    """0 male, 1 female, float32 [B]: the same whoever asks for these people (their own stream, not one within it)."""
    return draws.sub("looks").chance("sex", 0.5).float()


@lru_cache(maxsize=4)
def womanly(landmarks: Tensor, identity: Tensor) -> Tensor:
    """Unit direction [K] in coefficients of ``identity`` [K, V, 3] from men to women; landmarks int64 [68]."""
    marks = identity[:, landmarks]
    traits = []
    for plus, minus, axis, weight in _TRAITS:
        trait = marks[:, plus, axis].mean(1) - marks[:, minus, axis].mean(1)
        traits.append(weight * functional.normalize(trait, dim=0))
    return functional.normalize(torch.stack(traits).sum(0), dim=0)
