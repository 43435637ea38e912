"""The page: whole, offline, and safe with hostile names."""

import base64
import hashlib
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import making
from peregrine.data.checks.base import Case, Member, finding
from peregrine.data.checks.examine import Report, check
from peregrine.data.checks.page import write
from peregrine.dataset import Dataset, Splits
from peregrine.errors import MachineError

SCRIPT = "<script>alert(1)</script>"
QUOTE = '" onerror="alert(1)'


class Parsed(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(report: Report, folder: Path) -> tuple[str, Parsed]:
    write(report, folder / "out" / "check.html")
    page = (folder / "out" / "check.html").read_text("utf-8")
    return page, Parsed(page)


def hostile() -> Splits:
    images = making.scenes(8)
    ids = np.array([f"{SCRIPT}/{QUOTE}/{number}" for number in range(8)])
    whole = Dataset(images, np.arange(8, dtype=np.int64) % 2, ids, (SCRIPT, QUOTE))
    return Splits(whole.subset(np.arange(4)), None, whole.subset(np.arange(4, 8)))


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    splits = hostile()
    member = Member(str(splits.train.ids[0]), "train", SCRIPT, 0)
    found = finding("label-error", f"it is {SCRIPT}", [Case((member,), QUOTE, 0.5, QUOTE)])
    page, parsed = page_of(Report(SCRIPT, tuple(found), ("label-error",), {"leakage": SCRIPT}, splits), tmp_path)
    tags = {tag for tag, _ in parsed.tags}
    assert not tags & {"script", "iframe", "object", "embed", "link", "base", "form"}
    assert not [
        name for _, attributes in parsed.tags for name in attributes if name.startswith("on") or name == "style"
    ]
    assert SCRIPT in parsed.text
    assert all(
        attributes["src"].startswith("data:image/png;base64,") for tag, attributes in parsed.tags if tag == "img"
    )
    assert not re.search(r"(?:src|href)=\"(?!data:image|#)", page)


def test_the_policy_allows_its_own_style_alone(tmp_path: Path) -> None:
    page, parsed = page_of(Report("x", (), (), {}, hostile()), tmp_path)
    style = re.search(r"<style>(.*)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(attributes["content"] for tag, attributes in parsed.tags if "http-equiv" in attributes)
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_pairs_classes_and_all_checks_are_shown(tmp_path: Path) -> None:
    folder = making.split_photos(tmp_path / "photos", each=6)
    shutil.copy(folder / "train" / "cat" / "1.png", folder / "test" / "cat" / "copy.png")
    (folder / "train" / "cat" / "2.png").write_bytes(b"")
    report = check(folder)
    _, parsed = page_of(report, tmp_path)
    for words in ("train/cat/1.png", "test/cat/copy.png", "empty-file", "0 bytes", "nothing found", "not checked"):
        assert words in parsed.text
    alts = [attributes.get("alt") for tag, attributes in parsed.tags if tag == "img"]
    assert "train/cat/1.png, in train, labelled cat" in alts
    assert "test/cat/copy.png, in test, labelled cat" in alts
    assert all(alts)
    targets = {attributes["href"] for tag, attributes in parsed.tags if tag == "a"}
    names = {f"#{attributes['id']}" for _, attributes in parsed.tags if "id" in attributes}
    assert targets <= names
    assert len(names) == len([1 for _, attributes in parsed.tags if "id" in attributes])
    assert len([alt for alt in alts if alt and alt.endswith("labelled dog")]) == 10


def test_data_that_cannot_be_loaded_have_a_page_too(tmp_path: Path) -> None:
    folder = making.split_photos(tmp_path / "photos", each=3)
    for path in (folder / "test" / "cat").iterdir():
        path.write_bytes(b"")
    _, parsed = page_of(check(folder), tmp_path)
    assert "Data that cannot be loaded" in parsed.text
    assert "test/cat/0.png" in parsed.text


def test_many_cases_are_cut(tmp_path: Path) -> None:
    splits = hostile()
    cases = [Case((Member(str(splits.train.ids[0]), "train", "a", 0),))] * 30
    _, parsed = page_of(Report("x", tuple(finding("blank", "m", cases)), ("blank",), {}, splits), tmp_path)
    assert "The first 24 of 30 are shown" in parsed.text


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot read or write"):
        write(Report("x", (), (), {}, hostile()), tmp_path / "file" / "check.html")
