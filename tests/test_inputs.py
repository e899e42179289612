from __future__ import annotations

from pathlib import Path

import pytest

from deepspec.inputs import EXTENSIONS, find_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "b.JPG",
        "a.png",
        "sub dir/ä.tiff",
        "sub dir/deep/c.webp",
        "notes.txt",
        ".hidden.png",
        ".dir/d.png",
    ):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "in"


def test_folders_are_searched_by_extension_and_mirrored(folder: Path) -> None:
    found = find_images(folder)
    assert [item.name for item in found] == ["a.png", "b.JPG", "sub dir/deep/c.webp", "sub dir/ä.tiff"]
    assert [item.path for item in found] == [folder / item.name for item in found]
    out = folder.parent / "out"
    assert found[2].below(out, ".json") == out / "sub dir" / "deep" / "c.json"


def test_files_are_taken_whatever_they_are_called(folder: Path) -> None:
    found = find_images([folder / "notes.txt", str(folder / "sub dir")])
    assert [item.name for item in found] == ["notes.txt", "deep/c.webp", "ä.tiff"]


def test_a_file_given_twice_is_one(folder: Path) -> None:
    assert len(find_images([folder / "a.png", folder, folder / "a.png"])) == 4


def test_some_folders_stay_closed(folder: Path) -> None:
    assert [item.name for item in find_images(folder, without=[folder / "sub dir"])] == ["a.png", "b.JPG"]


def test_what_cannot_be_done_is_said(folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.jpg and .*a\.png would write the same results"):
        find_images(folder)
    with pytest.raises(ValueError, match=r"b\.JPG and .*b\.jpg would write the same results"):
        find_images([folder / "b.JPG", folder.parent / "b.jpg"])
    empty = folder / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"no images in .*empty: looked for \.avif"):
        find_images(empty)
    with pytest.raises(ValueError, match="no images given"):
        find_images([])


def test_the_extensions_are_lower_case() -> None:
    assert all(extension == extension.lower() and extension[0] == "." for extension in EXTENSIONS)
