"""Reading bytes wherever they lie: bounded, by name, and never out of what was named."""

import io
import os
import pickle
import tarfile
import threading
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from buckets import put, served_bucket
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import fs, parquet

from casfne import sources
from casfne.errors import InputError

NAMES = ["a.jpg", "deep/er/b.png", "with space.png", "100%.png", "a%20b.png", "höhe.png", "new\nline.png"]
ODD = os.fsdecode(b"not\xffutf8.png")


def zip_of(path: Path, members: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return str(path)


def tar_of(path: Path, members: dict[str, bytes]) -> str:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


def folder_of(path: Path, members: dict[str, bytes]) -> str:
    for name, content in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return str(path)


HOLDERS = {"folder": folder_of, "x.zip": zip_of, "x.tar": tar_of}


# --- names ---


@given(st.binary(max_size=12).map(os.fsdecode) | st.text("ab%0AFf\n\u202e/", max_size=12))
@example("\x00\u0378")  # a control character, and one that nothing is assigned to
def test_escaped_names_are_plain_text_and_come_back(name: str) -> None:
    text = sources.escape(name)
    assert sources.unescape(text) == name
    assert text.encode("utf-8").decode() == text
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in "\u202a\u202e\u2066\u2069" for c in text)


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("a b.png", "100%.png", "höhe/ü.jpg", "人.png"):
        assert sources.escape(name) == name
    assert sources.escape("a%20b") == "a%2520b"


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.jpg", "a/../../b.jpg", "C:\\x.jpg", "..\\a.jpg", "\\\\host\\a"])
def test_names_that_climb_are_known(name: str) -> None:
    assert sources.climbs(name)
    assert not sources.climbs("a/..b/c...jpg")


# --- folders and archives alike ---


@pytest.mark.parametrize("kind", HOLDERS)
def test_every_listed_name_can_be_read_whatever_its_letters(kind: str, tmp_path: Path) -> None:
    names = NAMES if kind == "x.zip" else [*NAMES, ODD]
    contents = {name: os.fsencode(name) * 3 for name in names}
    found = sources.listing(HOLDERS[kind](tmp_path / kind, contents))
    assert list(found) == sorted(names)
    for name, path in found.items():
        assert sources.read_bytes(path) == contents[name]
        assert "\n" not in path and path.encode("utf-8")
    assert [state.size for state in sources.states(found.values())] == [len(contents[name]) for name in found]


@pytest.mark.parametrize("kind", HOLDERS)
def test_only_asked_for_suffixes_are_listed_and_nothing_hidden(kind: str, tmp_path: Path) -> None:
    members = dict.fromkeys(["a.PNG", "b.txt", ".c.png", "__MACOSX/._a.png", "d/.e/f.png"], b"x")
    assert list(sources.listing(HOLDERS[kind](tmp_path / kind, members), {".png"})) == ["a.PNG"]


@pytest.mark.parametrize("kind", HOLDERS)
def test_what_is_larger_than_the_limit_is_refused_before_it_is_read(kind: str, tmp_path: Path) -> None:
    (path,) = sources.listing(HOLDERS[kind](tmp_path / kind, {"big.png": bytes(5_000_000)})).values()
    with pytest.raises(InputError, match=r"big\.png: 5,000,000 bytes, more than 4,999,999"):
        sources.read_bytes(path, limit=4_999_999)
    assert len(sources.read_bytes(path, limit=5_000_000)) == 5_000_000


@pytest.mark.parametrize("kind", ["x.zip", "x.tar"])
@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png"])
def test_members_that_climb_are_listed_and_cannot_be_read(kind: str, name: str, tmp_path: Path) -> None:
    archive = HOLDERS[kind](tmp_path / kind, {"good.png": b"good", name: b"evil"})
    found = sources.listing(archive)
    assert set(found) == {"good.png", name}
    assert sources.read_bytes(found["good.png"]) == b"good"
    with pytest.raises(InputError, match="leads out of"):
        sources.read_bytes(found[name])


@pytest.mark.parametrize("kind", ["x.zip", "x.tar"])
def test_archives_that_are_damaged_or_ambiguous_are_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    whole = Path(HOLDERS[kind](path, {"a.png": os.urandom(3000), "b.png": os.urandom(3000)})).read_bytes()
    for content in (b"", b"<html>", whole[:-5000]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"{kind}: not a whole"):
            sources.listing(str(path))
    path.write_bytes(whole)
    with pytest.raises(InputError, match=r"c\.png: no such member"):
        sources.read_bytes(f"{path}::c.png")
    with pytest.raises(FileNotFoundError):
        sources.read_bytes(f"{tmp_path}/none-{kind}::a.png")


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.png", b"1")
        archive.writestr("a.png", b"2")
    with pytest.raises(InputError, match=r"two members are called 'a\.png'"):
        sources.listing(str(tmp_path / "x.zip"))


def test_damaged_and_locked_members_cost_themselves_alone(tmp_path: Path) -> None:
    path = Path(zip_of(tmp_path / "x.zip", {"a.png": b"a" * 1000, "b.png": os.urandom(1000), "c.png": b"c"}))
    content = bytearray(path.read_bytes())
    at = content.index(b"b.png")
    content[at + 100] ^= 255
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.zip::b\.png: cannot be unpacked"):
        sources.read_bytes(f"{path}::b.png")
    assert sources.read_bytes(f"{path}::a.png") == b"a" * 1000
    central = content.index(b"PK\x01\x02")
    content[central + 8] |= 1  # says that the first member is encrypted
    content[6] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png: cannot be unpacked .*encrypted"):
        sources.read_bytes(f"{path}::a.png")
    assert sources.read_bytes(f"{path}::c.png") == b"c"


def test_a_zip_that_understates_a_member_gives_no_more_than_it_said(tmp_path: Path) -> None:
    """A bomb: the directory says 10 bytes, the data unpack to a million."""
    path = Path(zip_of(tmp_path / "x.zip", {"bomb.png": bytes(1_000_000)}))
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[central + 24 : central + 28] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be unpacked"):
        sources.read_bytes(f"{path}::bomb.png")


def test_links_and_devices_in_a_tar_cannot_be_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, kind in {
            "link.png": tarfile.SYMTYPE,
            "hard.png": tarfile.LNKTYPE,
            "zero.png": tarfile.CHRTYPE,
        }.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    found = sources.listing(str(tmp_path / "x.tar"))
    assert len(found) == 3
    for path in found.values():
        with pytest.raises(InputError, match="a link or device"):
            sources.read_bytes(path)


def test_an_archive_that_changes_on_disk_is_opened_again(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", {"a.png": b"before"})
    assert sources.read_bytes(f"{path}::a.png") == b"before"
    zip_of(tmp_path / "new.zip", {"a.png": b"after"})
    os.replace(tmp_path / "new.zip", path)
    assert sources.read_bytes(f"{path}::a.png") == b"after"


def test_few_archives_stay_open_and_nothing_open_travels(tmp_path: Path) -> None:
    paths = [f"{zip_of(tmp_path / f'{i}.zip', {'a.png': b'%d' % i})}::a.png" for i in range(12)]
    for _ in range(2):
        assert [sources.read_bytes(p) for p in paths] == [b"%d" % i for i in range(12)]
    held = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink() and entry.exists()]
    assert sum(name.startswith(str(tmp_path)) for name in held) <= 4
    assert pickle.loads(pickle.dumps(paths)) == paths


@pytest.mark.parametrize("kind", ["x.zip", "x.tar"])
def test_threads_and_forked_processes_share_an_archive(kind: str, tmp_path: Path) -> None:
    contents = {f"{i}.png": bytes([i]) * (20_000 + i) for i in range(40)}
    found = sources.listing(HOLDERS[kind](tmp_path / kind, contents))
    wrong: list[str] = []

    def read_all() -> None:
        wrong.extend(name for name, path in found.items() if sources.read_bytes(path) != contents[name])

    read_all()
    child = os.fork()
    if child == 0:
        failed = True
        try:
            read_all()
            failed = bool(wrong)
        finally:
            os._exit(failed)
    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert os.waitpid(child, 0)[1] == 0


# --- Parquet ---


@pytest.mark.parametrize("shape", ["struct", "bytes", "large"])
def test_rows_of_a_parquet_file_are_members(shape: str, tmp_path: Path) -> None:
    contents = [b"%d" % i * 100 for i in range(10)]
    column = {
        "struct": pa.array([{"bytes": c, "path": None} for c in contents]),
        "bytes": pa.array(contents, pa.binary()),
        "large": pa.array(contents, pa.large_binary()),
    }[shape]
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"n": range(10), "image": column}), path, row_group_size=3)
    assert [sources.read_bytes(f"{path}::{i}") for i in range(10)] == contents
    assert sources.read_bytes(f"{path}::0") == contents[0]
    with pytest.raises(InputError, match="no such row, expected 0 to 9"):
        sources.read_bytes(f"{path}::10")
    with pytest.raises(InputError, match="::3: 100 bytes, more than 99"):
        sources.read_bytes(f"{path}::3", limit=99)


def test_a_row_without_a_picture_and_a_file_without_a_column_say_so(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"image": pa.array([b"a", None], pa.binary())}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="::1: no picture in this row"):
        sources.read_bytes(f"{tmp_path}/x.parquet::1")
    parquet.write_table(pa.table({"n": [1]}), tmp_path / "y.parquet")
    with pytest.raises(InputError, match=r"y\.parquet: expected a column `image` of bytes, got n"):
        sources.read_bytes(f"{tmp_path}/y.parquet::0")


# --- links, pipes, permissions ---


def test_links_inside_are_followed_and_loops_end(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a/1.png": b"1", ".store/2.png": b"2", "b/3.png": b"3"})
    links = {"a/up": "..", "b/across": "../a", "a/back": "../b", "two.png": ".store/2.png", "kept": ".store"}
    for link, target in (links | {"self.png": "self.png", "gone.png": "nowhere.png"}).items():
        (tmp_path / link).symlink_to(target)
    found = sources.listing(str(tmp_path), {".png"})
    assert list(found) == ["a/1.png", "b/3.png", "gone.png", "kept/2.png", "self.png", "two.png"]
    assert sources.read_bytes(found["two.png"]) == sources.read_bytes(found["kept/2.png"]) == b"2"
    for name in ("gone.png", "self.png"):
        with pytest.raises(OSError):
            sources.read_bytes(found[name])


def test_links_that_leave_the_folder_are_listed_and_cannot_be_read(tmp_path: Path) -> None:
    folder_of(tmp_path, {"out/secret.png": b"secret", "in/a.png": b"a"})
    (tmp_path / "in" / "link.png").symlink_to("../out/secret.png")
    (tmp_path / "in" / "folder").symlink_to("../out")
    (tmp_path / "in" / "hop.png").symlink_to("link.png")
    found = sources.listing(str(tmp_path / "in"), {".png"})
    assert list(found) == ["a.png", "folder", "hop.png", "link.png"]
    for name in ("folder", "hop.png", "link.png"):
        with pytest.raises(InputError, match=f"{name}: a link that leaves {tmp_path}/in"):
            sources.read_bytes(found[name])
    assert sources.read_bytes(sources.within(str(tmp_path / "in"), "a.png")) == b"a"
    with pytest.raises(InputError, match="a link that leaves"):
        sources.read_bytes(sources.within(str(tmp_path / "in"), "folder/secret.png"))


def test_pipes_and_devices_are_no_files_and_never_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe.zip")
    for path in (f"{tmp_path}/pipe.png", f"{tmp_path}/pipe.zip::a.png", "/dev/zero"):
        with pytest.raises(InputError, match="no regular file"):
            sources.read_bytes(path)
    with pytest.raises(IsADirectoryError):
        sources.read_bytes(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        sources.read_bytes(str(tmp_path / "none.png"))


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, {"closed/a.png": b"a"})
    scan = os.scandir

    def refuse(folder: str) -> Any:
        if folder.endswith("closed/"):
            raise PermissionError(13, "Permission denied", folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)  # root, who may run this, may list everything
    with pytest.raises(InputError, match=r"closed/: cannot be listed \(Permission denied\)"):
        sources.listing(str(tmp_path))


def test_a_file_whose_own_name_looks_like_a_member_is_itself(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a.zip::b.png": b"itself", "set::1/c.png": b"c"})
    assert [sources.read_bytes(path) for path in sources.listing(str(tmp_path)).values()] == [b"itself", b"c"]


# --- addresses and stores ---


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("http://host/a.png", "unknown kind of address"),
        ("s3:///a.png", "no bucket"),
        ("s3://id:secret@bucket/a.png", "credentials belong into the environment"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused(uri: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        sources.read_bytes(uri)
    assert "secret" not in str(error.value)


def test_joining_keeps_queries_and_escapes_keys() -> None:
    root = "s3://bucket/my%20faces/?endpoint_override=localhost:1"
    assert sources.join(root, "a b#?.png") == "s3://bucket/my%20faces/a%20b%23%3F.png?endpoint_override=localhost:1"
    assert sources.parent(sources.join(root, "d/x.png")) == "s3://bucket/my%20faces/d?endpoint_override=localhost:1"
    assert sources.join("s3://bucket", "a.png") == "s3://bucket/a.png"
    assert sources.located("a.png", "/here") == "/here/a.png"
    assert sources.located("s3://b/a.png", "/here") == "s3://b/a.png"


def test_google_storage_is_opened_without_asking_it() -> None:
    filesystem, path = sources.open_filesystem("gs://anonymous@bucket/faces/a%20b.png")
    assert isinstance(filesystem, fs.GcsFileSystem) and path == "bucket/faces/a b.png"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with served_bucket() as uri:
        yield uri


def test_objects_are_listed_and_read_as_files_are(bucket: str) -> None:
    contents = {name: name.encode() for name in ("a.png", "deep/er/b.png", "with space.png", "100%.png", "höhe.png")}
    put(f"{bucket}/set", contents)
    found = sources.listing(f"{bucket}/set")
    assert list(found) == sorted(contents)
    assert {name: sources.read_bytes(path) for name, path in found.items()} == contents
    said = sources.states([*found.values(), f"{bucket}/set/none.png"])
    assert [state.size for state in said] == [*(len(contents[n]) for n in found), -1]
    assert all(state.written_ns > 0 for state in said[:-1])
    assert sources.is_folder(f"{bucket}/set") and not sources.exists(f"{bucket}/none")
    with pytest.raises(InputError, match=r"a\.png: 5 bytes, more than 4"):
        sources.read_bytes(f"{bucket}/set/a.png", limit=4)
    with pytest.raises(FileNotFoundError):
        sources.read_bytes(f"{bucket}/set/none.png")
    with pytest.raises(InputError, match="no such folder"):
        sources.listing(f"{bucket}/nowhere")


@pytest.mark.parametrize("kind", ["x.zip", "x.tar"])
def test_archives_in_a_bucket_are_read_as_on_disk(kind: str, bucket: str, tmp_path: Path) -> None:
    contents = {f"d/{i}.png": os.urandom(1000) for i in range(20)}
    put(bucket, {kind: Path(HOLDERS[kind](tmp_path / kind, contents)).read_bytes()})
    found = sources.listing(f"{bucket}/{kind}")
    assert found["d/7.png"] == f"{bucket}/{kind}::d/7.png"
    assert {name: sources.read_bytes(path) for name, path in found.items()} == contents


def test_the_query_of_an_address_says_where_the_store_is(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, {"q/a.png": b"a"})
    host = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    (path,) = sources.listing(f"{bucket}/q?endpoint_override={host}&scheme=http&region=us-east-1").values()
    assert path.startswith(f"{bucket}/q/a.png?endpoint_override")
    assert sources.read_bytes(path) == b"a"


def test_a_store_that_does_not_answer_is_an_error_that_can_pass(bucket: str) -> None:
    with pytest.raises(OSError):
        sources.read_bytes(f"{bucket}/a.png?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1")


def test_a_store_that_refuses_to_list_is_asked_once(monkeypatch) -> None:
    asked = []

    def refused(uri: str) -> dict[str, sources.State]:
        asked.append(uri)
        raise InputError(f"{uri}: cannot be listed")

    monkeypatch.setattr(sources, "_objects", refused)
    assert set(sources.states(f"s3://bucket/set/{i}.png" for i in range(5))) == {sources.State(-1, 0)}
    assert asked == ["s3://bucket/set"]


def test_the_state_of_members_is_that_of_their_archive_which_is_not_searched_for(tmp_path: Path, monkeypatch) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, content in {"x.png": b"12", "y.png": b"345"}.items():
            archive.writestr(name, content)
    asked, real = [], sources.open_filesystem
    monkeypatch.setattr(sources, "open_filesystem", lambda uri: asked.append(uri) or real(uri))
    when = (tmp_path / "a.zip").stat().st_mtime_ns
    found = sources.states(f"{tmp_path}/a.zip::{name}.png" for name in "xy")
    assert found == [sources.State(2, when), sources.State(3, when)] and asked == [f"{tmp_path}/a.zip"]
