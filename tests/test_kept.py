"""Portraits that are kept once rendered: the same batches, each rendered once, and never those of another studio."""

import dataclasses
import multiprocessing

import numpy as np
import pytest
import torch

from casfne import config
from casfne.errors import InputError
from casfne.normals import angle_deg
from casfne.training.dataset import Request
from casfne.training.kept import Kept, kept

PORTRAITS = config.Portraits(("anny",), seed=3, count=6, held=0, supersample=1, keep="portraits")


class Source:
    """Portraits of noise, which count how often they are asked for."""

    prepares_on = torch.device("cpu")

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 6

    def __getitems__(self, requests):
        self.asked += [(request.row, request.size) for request in requests]
        parts = [self.one(request.row, request.size) for request in requests]
        batch = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
        return batch | {"seed": torch.tensor([request.seed for request in requests])}

    def one(self, row, size):
        draw = torch.Generator().manual_seed(row)
        face = torch.rand(1, size, size, generator=draw) > 0.5
        normal = torch.nn.functional.normalize(torch.randn(3, size, size, generator=draw), dim=0) * face
        image = torch.randint(0, 256, (3, size, size), generator=draw).to(torch.uint8)
        return {"image": image, "normal": normal.half(), "mask": face, "trust": face.to(torch.uint8) * 255}


def asked(*rows, size=8):
    return [Request(row, 100 + row, size) for row in rows]


def test_a_batch_is_the_sources_but_for_rounding(tmp_path):
    source = Source()
    for _ in range(2):  # rendered, then read
        batch, expected = Kept(source, tmp_path).__getitems__(asked(4, 0, 4)), Source().__getitems__(asked(4, 0, 4))
        assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {k: (v.shape, v.dtype) for k, v in expected.items()}
        assert all(torch.equal(batch[name], expected[name]) for name in ("image", "mask", "trust", "seed"))
        normal, exact = (b["normal"].float().movedim(1, -1).numpy() for b in (batch, expected))
        face = expected["mask"][:, 0].numpy()
        assert angle_deg(normal[face], exact[face]).max() < 0.6 and not np.any(normal[~face])


def test_each_is_rendered_once_at_each_size_also_by_a_later_run(tmp_path):
    source = Source()
    first = Kept(source, tmp_path)
    first.__getitems__(asked(1, 2))
    first.__getitems__(asked(2, 3))
    Kept(source, tmp_path).__getitems__(asked(3, 1, 0))
    first.__getitems__(asked(0))
    first.__getitems__(asked(0, size=16))
    assert source.asked == [(1, 8), (2, 8), (3, 8), (0, 8), (0, 16)]
    assert len(first) == 6


def test_what_was_not_written_to_its_end_is_rendered_again(tmp_path, monkeypatch):
    source = Source()
    broken = Kept(source, tmp_path)
    broken.__getitems__(asked(0))

    def fail(_):
        raise OSError("full")

    monkeypatch.setattr(np.memmap, "flush", fail)
    with pytest.raises(OSError, match="full"):
        broken.__getitems__(asked(1))
    monkeypatch.undo()
    batch = Kept(source, tmp_path).__getitems__(asked(1))
    assert source.asked.count((1, 8)) == 2 and torch.equal(batch["image"], source.one(1, 8)["image"][None])


def test_other_files_are_refused(tmp_path):
    Kept(Source(), tmp_path).__getitems__(asked(1))
    (tmp_path / "8" / "face.npy").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"face\.npy: not kept portraits"):
        Kept(Source(), tmp_path).__getitems__(asked(1))
    np.save(tmp_path / "8" / "face.npy", np.zeros((5, 1, 8, 8), bool))
    with pytest.raises(InputError, match=r"face\.npy: bool \(5, 1, 8, 8\), expected bool \(6, 1, 8, 8\)"):
        Kept(Source(), tmp_path).__getitems__(asked(1))


def opened_together(folder, barrier, said):
    """One of the processes that ask for their first batch at the same time."""
    barrier.wait()
    try:
        batch = Kept(Source(), folder).__getitems__(asked(2))
        said.put("" if torch.equal(batch["image"][0], Source().one(2, 8)["image"]) else "another image")
    except Exception as error:
        said.put(repr(error))


def test_processes_that_begin_together_share_the_files(tmp_path):
    """The workers of a training do: none may find a file half made, or make it anew under another."""
    context = multiprocessing.get_context("fork")
    for i in range(8):
        barrier, said = context.Barrier(4), context.SimpleQueue()
        processes = [context.Process(target=opened_together, args=(tmp_path / str(i), barrier, said)) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 4
        assert [said.get() for _ in processes] == [""] * 4
        names = {path.name for path in (tmp_path / str(i) / "8").iterdir()}
        assert names == {"image.npy", "normal.npy", "face.npy", "there.npy"}


def test_file_systems_without_hard_links_will_do(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refused)
    batch = Kept(Source(), tmp_path).__getitems__(asked(1))
    assert torch.equal(batch["image"][0], Source().one(1, 8)["image"])


@pytest.mark.parametrize("change", [{"seed": 4}, {"supersample": 2}, {"count": 7}])
def test_another_studio_has_another_folder(change, tmp_path):
    head = tmp_path / "head.npz"
    head.write_bytes(b"one")
    same = kept(Source(), dataclasses.replace(PORTRAITS, held=9), [head]).folder
    assert same == kept(Source(), PORTRAITS, [head]).folder and same.parent.name == "portraits"
    assert same != kept(Source(), dataclasses.replace(PORTRAITS, **change), [head]).folder
    head.write_bytes(b"another")
    assert same != kept(Source(), PORTRAITS, [head]).folder
