from __future__ import annotations

import base64
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from builders import decomposition, two_colors
from parsed_pages import Page
from PIL import Image

from deepspec import pages
from deepspec.decomposition import Decomposition, decompose
from deepspec.pages import Entry, Panel
from deepspec.regions import Box

MASK = np.zeros((75, 93), bool)
MASK[20:50, 30:70] = True
AWKWARD = "sub dir/a <b> & \"c\" 'ü' #1?.jpg"


@pytest.fixture(scope="module")
def d() -> Decomposition:
    return decompose(two_colors(75, 93, np.s_[20:50, 30:70]), "classical", k=4)


@pytest.fixture(scope="module")
def panel() -> Panel:
    return pages.panels(decomposition(np.eye(4)), n_eigenvectors=0, height=4)[0]


def pixels(panel: Panel) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(panel.jpeg, validate=True))) as image:
        assert image.format == "JPEG"
        assert image.size == (panel.width, panel.height)
        return np.asarray(image.convert("RGB")).astype(int)


def redness(picture: np.ndarray) -> np.ndarray:
    return picture[..., 0] - picture[..., 2]


def test_panels_show_what_there_is(d: Decomposition) -> None:
    labels = MASK.astype(np.int32)
    box = Box(30, 20, 70, 50, 0.5)

    def captions(**parts: object) -> list[str]:
        return [panel.caption for panel in pages.panels(d, **parts)]

    assert captions() == ["image", "y₁", "y₂", "y₃"]
    assert captions(box=box, n_eigenvectors=1) == ["box", "y₁"]
    assert captions(mask=MASK, n_eigenvectors=0) == ["object"]
    assert captions(mask=MASK, box=box, n_eigenvectors=0) == ["object and box"]
    assert captions(labels=labels, n_eigenvectors=2) == ["segments", "image", "y₁", "y₂"]
    many = decomposition(*np.eye(16).reshape(16, 4, 4)[:12])
    assert [panel.caption for panel in pages.panels(many, n_eigenvectors=99)][-2:] == ["y₁₁", "y₁₂"]


def test_pictures_have_the_height_asked_for(d: Decomposition) -> None:
    for panel in pages.panels(d, mask=MASK, height=150):
        assert (panel.width, panel.height) == (186, 150)
        assert len(panel.jpeg) < 10_000
        pixels(panel)
    # Wider than twice the height, and a line.
    wide = decomposition(np.eye(2, 8), size=(16, 64), cell=(8, 8))
    assert {(p.width, p.height) for p in pages.panels(wide, height=100)} == {(200, 50)}
    line = decomposition(np.ones((1, 900)), size=(1, 900), cell=(1, 1))
    assert {(p.width, p.height) for p in pages.panels(line, height=100)} == {(200, 1)}
    for panel in pages.panels(line, height=100, box=Box(899, 0, 900, 1, 0.5), mask=np.ones((1, 900), bool)):
        pixels(panel)


def test_image_is_shown_in_its_colors(d: Decomposition) -> None:
    picture = pixels(pages.panels(d)[0])
    np.testing.assert_allclose(picture[20, 20], (40, 60, 150), atol=12)
    np.testing.assert_allclose(picture[120, 160], (230, 130, 30), atol=12)


def test_box_is_drawn_around_its_pixels() -> None:
    d = decomposition(np.eye(10))  # black, 80 x 80 pixels
    picture = pixels(pages.panels(d, box=Box(20, 10, 60, 40, 0.5), height=160)[0])
    rows, columns = np.nonzero(picture.max(axis=2) > 128)
    # At twice the size, with a pixel of white around.
    assert (rows.min(), rows.max()) == pytest.approx((19, 80), abs=1)
    assert (columns.min(), columns.max()) == pytest.approx((39, 120), abs=1)
    assert picture[26:74, 46:114].max() < 40
    assert redness(picture)[50, 40] > 100
    for box in (Box(0, 0, 80, 80, 1.0), Box(79, 79, 80, 80, 1.0), Box(0, 0, 1, 1, 1.0)):
        assert pixels(pages.panels(d, box=box)[0]).max() > 200


def test_mask_keeps_the_colors_of_the_object_alone(d: Decomposition) -> None:
    picture = pixels(pages.panels(d, mask=MASK, height=150)[0])
    inside, outside = np.s_[50:90, 70:130], np.s_[110:, :]
    np.testing.assert_allclose(picture[inside].mean(axis=(0, 1)), (230, 130, 30), atol=6)
    assert np.ptp(picture[outside].mean(axis=(0, 1))) < 4
    line = redness(picture)[40, 65:135]  # the object's upper edge, at twice the size
    assert line.min() > 100
    for uniform in (np.zeros_like(MASK), np.ones_like(MASK)):
        pixels(pages.panels(d, mask=uniform)[0])


def test_segments_have_different_colors_and_the_background_none(d: Decomposition) -> None:
    labels = np.zeros((75, 93), np.int64)
    labels[:, 31:62], labels[:, 62:] = 1, 2
    picture = pixels(pages.panels(d, labels=labels, height=75)[0])
    background, first, last = (picture[60:, start : start + 16].mean(axis=(0, 1)) for start in (6, 38, 70))
    assert np.ptp(background) < 4
    assert np.ptp(first) > 40
    assert np.ptp(last) > 40
    assert np.abs(first - last).max() > 40


def test_eigenvectors_are_red_above_zero_and_blue_below() -> None:
    y = np.zeros((6, 9), np.float32)
    y[:, :3], y[:, 6:] = -0.01, 0.01
    # A strip of 12 rows and 8 columns of pixels is not covered; the picture is four times as large.
    picture = pixels(pages.panels(decomposition(y, size=(60, 80)), height=240)[1])
    np.testing.assert_allclose(picture[196:], 160, atol=12)
    np.testing.assert_allclose(picture[:, 292:], 160, atol=12)
    assert redness(picture)[:180, :64].max() < -60
    np.testing.assert_allclose(picture[:180, 126:162], 247, atol=8)
    assert redness(picture)[:180, 224:284].min() > 60
    # Smooth where cells are many pixels wide.
    steps = np.abs(np.diff(redness(pixels(pages.panels(decomposition(y), height=480)[1])), axis=1))
    assert steps.max() < 40


def test_constant_and_tiny_eigenvectors_can_be_drawn(d: Decomposition) -> None:
    flat = replace(d, pairs=replace(d.pairs, vectors=np.zeros_like(d.pairs.vectors)))
    np.testing.assert_allclose(pixels(pages.panels(flat)[1])[:200, :200], 247, atol=3)
    one_cell = decomposition(np.ones((1, 1)), size=(3, 3), cell=(3, 3))
    assert redness(pixels(pages.panels(one_cell)[1])).min() > 60


def test_parts_that_do_not_fit_are_refused(d: Decomposition) -> None:
    small = np.zeros((9, 11), bool)
    with pytest.raises(ValueError, match=r"mask must have the image's shape \(75, 93\), got \(9, 11\)"):
        pages.panels(d, mask=small)
    with pytest.raises(ValueError, match="labels must have the image's shape"):
        pages.panels(d, labels=small.astype(int))
    for wrong in (-1, 256):
        with pytest.raises(ValueError, match=r"labels must be in \[0, 255\]"):
            pages.panels(d, labels=MASK * wrong)
    with pytest.raises(ValueError, match="height must be at least 1 pixel, got 0"):
        pages.panels(d, height=0)


def test_entry_can_be_kept_as_json(d: Decomposition) -> None:
    entry = Entry(AWKWARD, pages.panels(d, mask=MASK), 0.25, "14 %", "masks/a.png")
    assert Entry.from_json(json.loads(json.dumps(entry.to_json()))) == entry
    # The same pictures every time.
    assert pages.panels(d, mask=MASK) == entry.panels


def test_page_holds_everything_itself(d: Decomposition, tmp_path: Path) -> None:
    entries = [
        Entry(AWKWARD, pages.panels(d, mask=MASK), 0.25, "x < 3 & y > 4", f"masks/{AWKWARD}"),
        Entry("plain.png", pages.panels(d, n_eigenvectors=0)),
    ]
    path = tmp_path / "sub" / "page.html"
    written = pages.write_pages(
        iter(entries),
        path,
        n_entries=2,
        title="cats & <dogs>",
        facts={"features": "classical", "λ <": "10 & more"},
        failures={"bro<ken>.jpg": "not an image & <more>"},
    )
    assert written == [path]
    assert list(path.parent.iterdir()) == [path]
    page = Page(path)
    assert page.all("html") == [{"lang": "en"}]
    assert page.text("title") == page.text("h1") == ["cats & <dogs>"]
    assert "2 images, 1 more failed" in page.text("p")
    assert page.text("dt") == ["features", "λ <"]
    assert page.text("dd") == ["classical", "10 & more"]
    assert page.text("b") == ["bro<ken>.jpg"]
    assert ": not an image & <more>" in page.text("li")
    first, second = (item for item in page.all("li") if "data-name" in item)
    assert first == {"data-name": AWKWARD, "data-score": "0.25"}
    assert second == {"data-name": "plain.png"}
    assert page.text("span") == ["score 0.25"]
    assert "x < 3 & y > 4" in page.text("p")
    pictures = [image for image in page.all("img") if "src" in image]
    assert [image["alt"] for image in pictures] == [
        *(f"{AWKWARD}: {caption}" for caption in ("object", "y₁", "y₂", "y₃")),
        "plain.png: image",
    ]
    for image, panel in zip(pictures, [*entries[0].panels, *entries[1].panels], strict=True):
        assert image["src"] == f"data:image/jpeg;base64,{panel.jpeg}"
        assert (image["width"], image["height"]) == (str(panel.width), str(panel.height))
    (link,) = page.all("a")
    assert unquote(link["href"]) == f"masks/{AWKWARD}"
    assert not set(link["href"]) & set("<>\"' #?&")


def test_page_asks_for_nothing_from_elsewhere(panel: Panel, tmp_path: Path) -> None:
    (path,) = pages.write_pages([Entry("a.jpg", [panel])], tmp_path / "page.html", n_entries=1, title="t")
    page = Page(path)
    assert "default-src 'none'" in page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    for _, attributes in page.elements:
        for name in ("src", "srcset", "href", "action", "style", "onclick"):
            assert attributes.get(name, "data:").startswith("data:")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page.source)


def test_controls_can_be_used_without_a_mouse_and_are_absent_without_scripts(
    panel: Panel, tmp_path: Path
) -> None:
    entries = [Entry(f"{n}.jpg", [panel, panel], n / 10) for n in range(3)]
    (path,) = pages.write_pages(entries, tmp_path / "page.html", n_entries=3, title="t")
    page = Page(path)
    assert page.all("form", id="controls")[0] == {"id": "controls", "hidden": ""}
    assert [option["value"] for option in page.all("option")] == ["run", "name", "low", "high"]
    assert page.text("label") == ["Name", "Sort"]
    # Every button does nothing but what its script does, and has a name: a picture's alternative text or a label.
    buttons = page.all("button")
    assert len([button for button in buttons if "aria-label" not in button]) == len(entries) * 2
    assert [item["data-score"] for item in page.all("li") if "data-score" in item] == ["0.0", "0.1", "0.2"]
    # The script finds what it looks for.
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert set(re.findall(r'find\([`"]#([a-z]+)', page.source)) == ids


def test_more_entries_than_a_page_holds(panel: Panel, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    options = {"title": "t", "failures": {f"{n}.jpg": "empty" for n in range(6)}, "per_page": 3}

    def entries(count: int) -> Iterator[Entry]:
        return (Entry(f"{n}.jpg", [panel]) for n in range(count))

    written = pages.write_pages(entries(7), path, n_entries=7, **options)
    assert [page.name for page in written] == ["page.html", "page-2.html", "page-3.html"]
    parsed = [Page(page) for page in written]
    names = [[item["data-name"] for item in page.all("li") if "data-name" in item] for page in parsed]
    assert names == [["0.jpg", "1.jpg", "2.jpg"], ["3.jpg", "4.jpg", "5.jpg"], ["6.jpg"]]
    # Above and below the entries.
    links = [[(link["rel"], link["href"]) for link in page.all("a")] for page in parsed]
    assert links == [
        [("next", "page-2.html")] * 2,
        [("prev", "page.html"), ("next", "page-3.html")] * 2,
        [("prev", "page-2.html")] * 2,
    ]
    assert [page.text("title") for page in parsed] == [["t"], ["t, page 2"], ["t, page 3"]]
    assert parsed[1].text("span") == ["page 2 of 3"] * 2
    assert all("7 images, 6 more failed" in page.text("p") for page in parsed)
    assert parsed[0].all("details") == [{}]

    first = path.read_bytes()
    pages.write_pages(entries(7), path, n_entries=7, **options)
    assert path.read_bytes() == first
    # A shorter run takes the pages of the longer one away, and no other file.
    (tmp_path / "page-x.html").write_text("mine")
    assert pages.write_pages(entries(3), path, n_entries=3, **options) == [path]
    assert {file.name for file in tmp_path.iterdir()} == {"page.html", "page-x.html"}


def test_entries_are_read_one_at_a_time(panel: Panel, tmp_path: Path) -> None:
    alive: list[int] = []

    class Counted(Entry):
        def __del__(self) -> None:
            alive.remove(id(self))

    def entries() -> Iterator[Entry]:
        for n in range(20):
            entry = Counted(f"{n}.jpg", [panel])
            alive.append(id(entry))
            assert len(alive) <= 2
            yield entry

    pages.write_pages(entries(), tmp_path / "page.html", n_entries=20, title="t", per_page=15)
    assert alive == []


def test_a_run_without_results_has_a_page(tmp_path: Path) -> None:
    (path,) = pages.write_pages([], tmp_path / "page.html", n_entries=0, title="t", failures={"a": "empty"})
    assert "0 images, 1 more failed" in Page(path).text("p")


def test_a_wrong_number_of_entries_is_refused(panel: Panel, tmp_path: Path) -> None:
    entries = [Entry("a", [panel])] * 5
    with pytest.raises(ValueError, match="n_entries = 6, got only 5"):
        pages.write_pages(entries, tmp_path / "page.html", n_entries=6, title="t", per_page=2)
    with pytest.raises(ValueError, match="n_entries = 4, got more"):
        pages.write_pages(entries, tmp_path / "page.html", n_entries=4, title="t")
    with pytest.raises(ValueError, match="per_page must be at least 1, got 0"):
        pages.write_pages(entries, tmp_path / "page.html", n_entries=5, title="t", per_page=0)


@pytest.mark.skipif(os.name != "posix", reason="elsewhere names are Unicode")
def test_names_that_are_no_unicode(panel: Panel, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    entry = Entry(name, [panel], link=name)
    (path,) = pages.write_pages([entry], tmp_path / "page.html", n_entries=1, title=name)
    page = Page(path)
    assert page.text("h1") == ["caf?.jpg"]
    assert page.all("a")[0]["href"] == "caf%E9.jpg"
