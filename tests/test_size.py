"""What a cascade costs: the paper's numbers, another counter, and the whole of the parameters."""

from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import ResNet18_Weights, resnet18

from casfne.model.cascade import Cascade, CascadeConfig, count_parameters
from casfne.model.size import describe


@pytest.fixture(scope="module")
def rows():
    return describe(CascadeConfig(width=32))


def test_the_released_network_costs_what_was_measured(rows):
    assert [row.refinements for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row.predictions for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.parameters for row in rows] == [11_767_683] + [18_102_758] * 5
    assert [round(row.multiply_adds / 1e9, 2) for row in rows[:5]] == [3.57, 5.44, 7.31, 9.18, 11.05]


def test_the_papers_table_counts_the_encoder_twice(rows):
    encoder = count_parameters(resnet18()) - 1000 * 513  # without its classifier
    assert encoder == 11_176_512
    assert [row.parameters_counted_twice for row in rows] == [11_767_683 + encoder] + [18_102_758 + encoder] * 5
    assert [round(row.parameters_counted_twice / 1e6, 1) for row in rows[:2]] == [22.9, 29.3]  # Table IV


def test_every_refinement_costs_the_same(rows):
    steps = {b.multiply_adds - a.multiply_adds for a, b in pairwise(rows)}
    assert len(steps) == 1 and round(steps.pop() / 1e9, 2) == 1.87


def test_the_layers_by_hand(rows):
    """Decoders and E_cn of width 32 from their shapes; E_f from what torchvision says about ResNet-18."""
    pixels = [(256 // 2**i) ** 2 for i in range(6)]  # at 1, 1/2, .. 1/32
    n, z = 32, 256
    initial = 16 * n * (512 * pixels[5] + (n + 256) * pixels[4] + (n + 128) * pixels[3])
    initial += 16 * n * ((n + 64) * pixels[2] + (n + 64) * pixels[1]) + 9 * n * 3 * pixels[0]
    down = 16 * (3 * n * pixels[1] + n * 2 * n * pixels[2] + 2 * n * 4 * n * pixels[3])
    down += 16 * (4 * n * z * pixels[4] + z * z * pixels[5])
    up = 16 * ((512 + z) * z * pixels[5] + (256 + z) * 4 * n * pixels[4] + (128 + 4 * n) * 2 * n * pixels[3])
    up += 16 * ((64 + 2 * n) * 2 * n * pixels[2] + (64 + 2 * n) * 3 * pixels[1])
    assert rows[1].multiply_adds - rows[0].multiply_adds == down + up
    published = ResNet18_Weights.IMAGENET1K_V1.meta["_ops"] * 1e9 - 1000 * 512  # at 224 pixels
    assert rows[0].multiply_adds - initial == pytest.approx(published * (256 / 224) ** 2, rel=1e-3)


@pytest.mark.parametrize("width, size, refinements", [(4, 64, 0), (4, 96, 2), (32, 256, 3)])
def test_torchs_own_counter_agrees(width, size, refinements):
    with torch.device("meta"):
        network, image = Cascade(CascadeConfig(width=width)).eval(), torch.empty(1, 3, size, size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image, refinements)
    row = describe(CascadeConfig(width=width), most=refinements, size=size)[-1]
    assert 2 * row.multiply_adds == counter.get_total_flops()


def test_all_parameters_are_counted(rows):
    assert rows[-1].parameters == count_parameters(Cascade(CascadeConfig(width=32)))


def test_the_networks_own_number_of_refinements_does_not_matter():
    assert describe(CascadeConfig(4, 0), 2, 64) == describe(CascadeConfig(4, 5), 2, 64)
