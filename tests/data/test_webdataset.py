"""WebDataset: what is understood, and what a tar file may have instead."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import making
from peregrine.data.base import Options
from peregrine.data.sources import load, load_dataset
from peregrine.errors import DamagedFile, DataError

Members = Sequence[tuple[str, bytes]]


def samples(count: int = 20, seed: int = 0, names: Sequence[str] = ("0", "1")) -> list[tuple[str, bytes]]:
    return [
        member
        for index, content in enumerate(making.encoded(count, seed=seed))
        for member in ((f"{index:03}.png", content), (f"{index:03}.cls", names[index % len(names)].encode()))
    ]


def test_shards_with_names(tmp_path: Path) -> None:
    making.tar_shards(tmp_path / "d")
    splits = load_dataset(tmp_path / "d")
    assert splits.class_names == ("cat", "dog")
    assert splits.train.ids.tolist()[:2] == ["0000.png", "0001.png"]
    np.testing.assert_array_equal(splits.train.images, making.images(30, 16)[:20])
    assert splits.notes == ()


def test_names_above_the_folders_of_the_splits(tmp_path: Path) -> None:
    making.tar(tmp_path / "d" / "train" / "0.tar", samples())
    making.tar(tmp_path / "d" / "test" / "0.tar", samples(seed=1))
    (tmp_path / "d" / "classnames.txt").write_text("cat\ndog\n")
    splits = load_dataset(tmp_path / "d")
    assert splits.class_names == ("cat", "dog")
    assert splits.test.ids.tolist()[:2] == ["test/0/000.png", "test/0/001.png"], "as the names alone come twice"


def test_numbers_without_names(tmp_path: Path) -> None:
    splits = load_dataset(making.tar(tmp_path / "d.tar", samples()))
    assert splits.class_names == ("0", "1")
    assert splits.notes[-1].startswith("the classes have numbers instead of names; classnames.txt beside the shards")
    assert load_dataset(making.tar(tmp_path / "e.tar", samples(names=("b", "a")))).class_names == ("a", "b")


def test_labels_in_json_and_members_of_other_kinds(tmp_path: Path) -> None:
    members = [("readme.txt", b"about"), ("./.hidden", b"")]
    for index, content in enumerate(making.encoded(20)):
        label = {"label": "ab"[index % 2]} if index % 3 else {"cls": "ab"[index % 2], "width": 3}
        members += [
            (f"d/{index}.JPG", content),
            (f"d/{index}.json", json.dumps(label).encode()),
            (f"d/{index}.txt", b"a"),
        ]
    splits = load_dataset(making.tar(tmp_path / "d.tar", members))
    assert splits.class_names == ("a", "b")
    assert len(splits.train) + len(splits.test) == 20


def test_unreadable_images_are_left_out_and_listed(tmp_path: Path) -> None:
    members = samples()
    members[0] = ("000.png", b"")
    members[2] = ("001.png", members[2][1][:-30])
    loaded = load(making.tar(tmp_path / "d.tar", members), Options(max_bad=0.1))
    reasons = {bad.id: bad.reason for bad in loaded.left_out}
    assert reasons.keys() == {"000.png", "001.png"}
    assert reasons["000.png"] == "the file is empty"
    assert reasons["001.png"].startswith("damaged: ")


REFUSED: dict[str, tuple[Members, type[Exception], str]] = {
    "parent": (
        [("../evil.png", b"x")],
        DamagedFile,
        r"is refused: '../evil.png' would land outside the folder; get the",
    ),
    "parent below": ([("a/../../evil.png", b"x")], DamagedFile, r"is refused: 'a/../../evil.png' would land outside"),
    "absolute": ([("/tmp/evil.png", b"x")], DamagedFile, r"is refused: '/tmp/evil.png' would land outside"),
    "no label": (
        [("x.png", b"x")],
        DataError,
        r"every image has a label, in .cls or .json; 'x' in .*d.tar has none; add",
    ),
    "two images": (
        [("x.png", b"x"), ("x.jpg", b"x"), ("x.cls", b"0")],
        DataError,
        "a sample has one image; 'x' in .*d.tar has 2; split it or remove one",
    ),
    "an image twice": (
        [("x.png", b"x"), ("x.cls", b"0"), ("x.png", b"y")],
        DataError,
        "a sample has each file once; 'x' in .*d.tar has png twice; remove one",
    ),
    "two labels": (
        [("x.png", b"x"), ("x.cls", b"0"), ("x.cls", b"1")],
        DataError,
        "a sample has each file once; 'x' in .*d.tar has cls twice; remove one",
    ),
    "empty label": (
        [("x.png", b"x"), ("x.cls", b" ")],
        DataError,
        r"a label is a number or a name, .*; x.cls in .* holds ' '$",
    ),
    "label is no text": (
        [("x.png", b"x"), ("x.cls", b"\xff")],
        DataError,
        r"a label is a number or a name, .* x.cls in",
    ),
    "label is no JSON": (
        [("x.png", b"x"), ("x.json", b"{")],
        DataError,
        r"a label is a number or a name, .* holds '{'",
    ),
    "label is a list": (
        [("x.png", b"x"), ("x.json", b'{"label": [1]}')],
        DataError,
        r"a label is a number or a name, .* holds '{\"label\": \[1\]}'",
    ),
    "label in two lines": ([("x.png", b"x"), ("x.cls", b"a\nb")], DataError, r"a class name is printable .* 'a\\nb'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(tmp_path: Path, cache: Path, kind: str) -> None:
    members, error, message = REFUSED[kind]
    making.tar(tmp_path / "d" / "d.tar", [*samples(), *members])
    with pytest.raises(error, match=message) as caught:
        load_dataset(tmp_path / "d")
    assert "\n" not in str(caught.value)
    assert not list(cache.glob("store/*/store.json"))
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["d.tar"]


@pytest.mark.parametrize(
    ("label", "message"), [("2", "labels are 0 to 1, .*'000.png' in .* has 2; correct"), ("-1", "has -1")]
)
def test_label_out_of_range(tmp_path: Path, label: str, message: str) -> None:
    making.tar(tmp_path / "d" / "d.tar", samples(names=(label, "0")))
    (tmp_path / "d" / "classnames.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path / "d")


def test_label_that_is_no_name(tmp_path: Path) -> None:
    making.tar(tmp_path / "d" / "d.tar", samples(names=("cat", "cow")))
    (tmp_path / "d" / "classnames.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"one of the names in classnames.txt, or the number of one; .* has 'cow'"):
        load_dataset(tmp_path / "d")
    (tmp_path / "d" / "classnames.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match=r"classnames.txt holds class names in UTF-8, one on each line; found"):
        load_dataset(tmp_path / "d")


@pytest.mark.parametrize(
    ("kind", "link"), [(tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "000.png"), (tarfile.FIFOTYPE, "")]
)
def test_links_and_devices(tmp_path: Path, kind: bytes, link: str) -> None:
    with tarfile.open(tmp_path / "d.tar", "w") as tar:
        member = tarfile.TarInfo("evil.png")
        member.type, member.linkname = kind, link
        tar.addfile(member)
    with pytest.raises(DamagedFile, match=r"d.tar is refused: 'evil.png' is a link or a device; get the official one"):
        load_dataset(tmp_path / "d.tar")


def test_names_that_cannot_be_shown(tmp_path: Path) -> None:
    members = samples()
    members[0], members[1] = (
        (b"caf\xe9\n.png".decode(errors="surrogateescape"), members[0][1]),
        ("caf\udce9\n.cls", b"0"),
    )
    with tarfile.open(tmp_path / "d.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    splits = load_dataset(tmp_path / "d.tar")
    assert r"caf\udce9\n.png" in {*splits.train.ids, *splits.test.ids}


def test_cut_or_changed_anywhere(tmp_path: Path) -> None:
    """The end of a tar file is looked for, as `tarfile` takes a damaged head for it."""
    whole = making.tar(tmp_path / "d.tar", samples()).read_bytes()
    for length in (0, 100, 512, 5000, 20 * 512, len(whole) - 10_240):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(DamagedFile, match=r"cut.tar is no whole tar file: .*; get it again"):
            load_dataset(tmp_path / "cut.tar")
    head = whole.index(b"007.png")
    (tmp_path / "cut.tar").write_bytes(whole[:head] + b"\xff" + whole[head + 1 :])
    with pytest.raises(DamagedFile, match=r"cut.tar is no whole tar file: there is no file head at byte"):
        load_dataset(tmp_path / "cut.tar")
    (tmp_path / "cut.tar").write_text("text" * 1000)
    with pytest.raises(DamagedFile, match=r"cut.tar is no whole tar file"):
        load_dataset(tmp_path / "cut.tar")


def test_a_member_of_negative_size(tmp_path: Path) -> None:
    """From which `tarfile` would step back, and read the same head again for ever."""
    whole = making.tar(tmp_path / "d.tar", samples(1)).read_bytes()
    with tarfile.open(tmp_path / "d.tar") as tar:
        tar.getmembers()
        end = tar.offset
    member = tarfile.TarInfo("y.png")
    member.size = -512
    (tmp_path / "d.tar").write_bytes(whole[:end] + member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(DamagedFile, match=r"y.png announces -512 bytes; get it again"):
        load_dataset(tmp_path / "d.tar")


def test_class_names_as_they_are_written(tmp_path: Path) -> None:
    making.tar(tmp_path / "d" / "train.tar", samples())
    making.tar(tmp_path / "d" / "test.tar", samples(seed=1))
    (tmp_path / "d" / "classnames.txt").write_bytes(b"\xef\xbb\xbfcat\r\ncat \r\n")
    assert load_dataset(tmp_path / "d").class_names == ("cat", "cat ")


def test_a_huge_member_is_announced(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x.png")
    member.size = 1 << 40
    (tmp_path / "d.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(
        DamagedFile, match=r"x.png announces 1,099,511,627,776 bytes, and there are fewer; get it again"
    ):
        load_dataset(tmp_path / "d.tar")
