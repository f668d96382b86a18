"""What a head may wear, and shoulders: meshes beside the head's own."""

from dataclasses import dataclass

from torch import Tensor

KINDS = ("hair", "glasses", "lens", "hat", "hand", "cloth", "lashes")
HAIR, GLASSES, LENS, HAT, HAND, CLOTH, LASHES = range(7)


@dataclass(frozen=True)
class Part:
    """A mesh of one of ``KINDS`` for each of B samples, in head space (clothes: world space), metres.

    vertices float32 [B, P, 3]; triangles int64 [Q, 3]; place [B, P, 3]: where textures are looked up; along
    [B, P, 3]: unit direction of strands, or zeros; worn bool [B]. Who does not wear it has all its vertices at the
    origin.
    """

    kind: int
    vertices: Tensor
    triangles: Tensor
    place: Tensor
    along: Tensor
    worn: Tensor
