"""Backgrounds: made-up ones and the user's own pictures."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.io import write_jpeg, write_png

from casfne.capture.draws import Draws
from casfne.capture.optics.background import background, read_photographs
from casfne.errors import InputError

SEEDS = torch.arange(96)


def test_backgrounds_are_light_in_range_and_differ():
    made = background(Draws(SEEDS), 48, 64)
    assert made.shape == (96, 3, 48, 64) and made.dtype == torch.float32
    assert made.isfinite().all() and (made >= 0).all() and (made <= 8).all()
    flat = made.flatten(1)
    assert torch.cdist(flat, flat).add(torch.eye(96) * 9).min() > 0.05
    level = made.mean((1, 2, 3))
    assert 0.03 < (level < 0.02).float().mean() < 0.25 and 0.03 < (level > 0.6).float().mean() < 0.3


def test_a_background_follows_from_its_seed_alone():
    draws, some = Draws(SEEDS), torch.tensor([40, 2])
    whole = background(draws, 32, 32)
    assert torch.equal(whole, background(draws, 32, 32))
    torch.testing.assert_close(background(draws.of(some), 32, 32), whole[some], atol=1e-4, rtol=1e-3)


def _plain(colour: list[int], height: int, width: int) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.uint8)[:, None, None].repeat(1, height, width)


def test_photographs_replace_a_share_and_keep_their_colours(tmp_path):
    write_png(
        torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 40, 60).contiguous(),
        str(tmp_path / "a.png"),
    )
    write_jpeg(
        torch.tensor([0, 0, 255], dtype=torch.uint8)[:, None, None].expand(3, 50, 30).contiguous(),
        str(tmp_path / "b.jpg"),
    )
    pictures = read_photographs(tmp_path, 24)
    assert pictures.shape == (2, 3, 24, 24) and pictures.dtype == torch.uint8
    made = background(Draws(SEEDS), 24, 36, pictures)
    plain = background(Draws(SEEDS), 24, 36)
    changed = (made - plain).abs().amax((1, 2, 3)) > 1e-6
    assert 0.4 < changed.float().mean() < 0.8
    red = made[changed].mean((2, 3))
    assert ((red[:, 0] > 10 * red[:, 2]) | (red[:, 2] > 10 * red[:, 0])).all()
    assert (made[changed].std((2, 3)) < 1e-3).all()


def test_photographs_of_16_bits_are_as_bright_as_those_of_8(tmp_path):
    for name, kind in (("8", np.uint8), ("16", np.uint16)):
        ramp = np.linspace(0, np.iinfo(kind).max, 64).round().astype(kind)
        (tmp_path / name).mkdir()
        assert cv2.imwrite(str(tmp_path / name / "a.png"), np.broadcast_to(ramp[:, None], (64, 64, 3)).copy())
    deep, plain = (read_photographs(tmp_path / name, 64).int() for name in ("16", "8"))
    assert (deep - plain).abs().max() <= 1 and deep.min() == 0 and deep.max() == 255


def test_wrong_photographs_are_refused():
    with pytest.raises(ValueError, match="expected uint8"):
        background(Draws(SEEDS), 24, 24, torch.zeros(2, 3, 8, 8))


def test_folders_without_pictures_and_damaged_files_are_named(tmp_path):
    with pytest.raises(InputError, match=tmp_path.name):
        read_photographs(tmp_path)
    with pytest.raises(InputError, match="missing"):
        read_photographs(tmp_path / "missing")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    with pytest.raises(InputError, match=r"broken\.jpg"):
        read_photographs(tmp_path)
