"""Arrays on disk: whole or an error, from any thread."""

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from casfne.errors import InputError
from casfne.files import array_names, read_array, read_arrays


@pytest.fixture
def busy_collector():
    """The garbage collector runs at almost every allocation, and lets another thread go on in the midst of it."""

    def give_way(*_: object) -> None:
        time.sleep(0)

    threshold = gc.get_threshold()
    gc.set_threshold(5)
    gc.callbacks.append(give_way)
    yield
    gc.callbacks.remove(give_way)
    gc.set_threshold(*threshold)


def test_arrays_are_read_by_many_threads_at_once(busy_collector, tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(9), b=np.arange(9))

    def read(_: int) -> None:
        assert len(read_arrays(tmp_path / "a.npz", ("a", "b"))) == 2

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(read, range(400)))


def test_only_what_is_asked_for_is_read(tmp_path):
    objects = np.array([{}, None], object)
    np.savez(tmp_path / "a.npz", normal=np.ones((2, 2, 3)), pickled=objects)
    assert array_names(tmp_path / "a.npz") == ["normal", "pickled"]
    assert list(read_arrays(tmp_path / "a.npz", ("normal", "missing"))) == ["normal"]
    with pytest.raises(InputError, match=r"a\.npz: cannot be read \(.*allow_pickle"):
        read_arrays(tmp_path / "a.npz", ("pickled",))


@pytest.mark.parametrize("name", ["cut.npy", "empty.npz", "text.npz", "zip.npz", "missing.npz", "."])
@pytest.mark.parametrize("read", [read_array, lambda path: read_arrays(path, ("a",)), array_names])
def test_what_is_no_array_is_named(read, name, tmp_path):
    np.save(tmp_path / "whole.npy", np.zeros(99))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-9])
    for file, content in {"empty.npz": b"", "text.npz": b"hello", "zip.npz": b"PK\3\4 no zip"}.items():
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: cannot be read (")


def test_one_array_is_not_taken_for_several_nor_several_for_one(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(99))
    np.savez(tmp_path / "some.npz", a=np.zeros(99))
    with pytest.raises(InputError, match=r"one\.npy: cannot be read \(a single array"):
        read_arrays(tmp_path / "one.npy", ("a",))
    with pytest.raises(InputError, match=r"some\.npz: cannot be read \(an \.npz file"):
        read_array(tmp_path / "some.npz")


def test_a_damaged_header_is_read_or_named(tmp_path):
    """Whatever bit of it is another one."""
    path, refused = tmp_path / "a.npy", 0
    np.save(path, np.zeros(3))
    whole = path.read_bytes()
    for bit in range(8 * 128):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            assert isinstance(read_array(path), np.ndarray)
        except InputError:
            refused += 1
    assert refused > 100


def test_a_damaged_member_is_named(tmp_path):
    path: Path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).random(999))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npz: cannot be read"):
        read_arrays(path, ("a",))
