from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from parsed_pages import Page
from PIL import Image

from deepspec.class_pages import (
    ClassSummary,
    LabelledEntry,
    crop_panel,
    overlay_panels,
    write_class_pages,
)
from deepspec.pictures import Panel, segment_colors

AWKWARD = "sub dir/a <b> & \"c\" 'ü' #1?.jpg"
IMAGE = np.full((60, 80, 3), (90, 120, 150), np.uint8)
LABELS = np.zeros((60, 80), np.int32)
LABELS[:30, :40], LABELS[30:, :40] = 3, 200
CROP = crop_panel("a.jpg", IMAGE[:20, :20], height=20)
CLASSES = [
    ClassSummary(3, "<b>ird & co", 0.5, 2, 3, [CROP, replace(CROP, caption='"b".jpg')]),
    ClassSummary(200, None, 0.0125, 1, 1, [CROP]),
    ClassSummary(1, "nowhere", 0.0, 0, 0),
]


def entry(name: str, *classes: tuple[int, float]) -> LabelledEntry:
    return LabelledEntry(name, [CROP], classes)


def pixels(panel: Panel) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(panel.jpeg, validate=True))) as image:
        assert (image.format, image.size) == ("JPEG", (panel.width, panel.height))
        return np.asarray(image.convert("RGB")).astype(int)


def cards(page: Page) -> list[dict[str, str]]:
    return [item for item in page.all("li") if "data-name" in item]


def test_overlay_is_next_to_the_photograph() -> None:
    overlay, photo = overlay_panels(IMAGE, LABELS, height=120)
    assert (overlay.caption, photo.caption) == ("classes", "image")
    assert (overlay.width, overlay.height) == (photo.width, photo.height) == (160, 120)
    np.testing.assert_allclose(pixels(photo)[60, 80], IMAGE[0, 0], atol=4)
    shades = pixels(overlay)
    gray = shades[:, 96:].reshape(-1, 3)
    assert np.ptp(gray, axis=1).max() < 8
    # 0.55 of the class's colour over the gray image, in the colours of the page.
    for class_id, part in ((3, shades[8:52, 8:72]), (200, shades[68:112, 8:72])):
        expected = 0.55 * segment_colors()[class_id] + 0.45 * gray.mean()
        np.testing.assert_allclose(part.mean(axis=(0, 1)), expected, atol=6)


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels must have the image's shape \(60, 80\), got \(60, 79\)"):
        overlay_panels(IMAGE, LABELS[:, :79])
    for wrong in (-1, 256):
        with pytest.raises(ValueError, match=r"labels must be in \[0, 255\]"):
            overlay_panels(IMAGE, np.full_like(LABELS, wrong))
    with pytest.raises(ValueError, match="height must be at least 1 pixel, got 0"):
        overlay_panels(IMAGE, LABELS, height=0)


def test_crops_have_the_height_asked_for() -> None:
    assert (crop_panel("a", IMAGE, height=30).width, crop_panel("a", IMAGE).height) == (40, 120)
    # A segment as wide as a large image, one pixel high.
    assert crop_panel("a", np.zeros((1, 900, 3), np.uint8), height=50).width == 100


def test_page_shows_classes_and_images(tmp_path: Path) -> None:
    entries = [
        LabelledEntry(
            AWKWARD, overlay_panels(IMAGE, LABELS), [(200, 0.3), (3, 0.0125)], f"labels/{AWKWARD}.png"
        ),
        entry("empty.jpg"),
    ]
    path = tmp_path / "sub" / "index.html"
    written = write_class_pages(
        CLASSES,
        iter(entries),
        path,
        n_entries=2,
        title="cats & <dogs>",
        facts={"features": "classical <"},
        failures={"bro<ken>.jpg": "not an image"},
    )
    assert written == list(path.parent.iterdir()) == [path]
    page = Page(path)
    assert page.text("title") == page.text("h1") == ["cats & <dogs>"]
    assert page.text("p")[:2] == ["2 images, 1 more failed", "3 classes"]
    assert page.text("dd") == ["classical <"]
    assert page.text("p")[2:5] == [
        "50% of the pixels, 2 images, 3 segments",
        "1.2% of the pixels, 1 image, 1 segment",
        "0.0% of the pixels, 0 images, 0 segments",
    ]
    assert [bar["width"] for bar in page.all("rect")] == ["100.0%", "2.5%", "0.0%"]
    # In the grid of classes, then in the legend of the first image, whose largest class is first.
    filters = [button for button in page.all("button") if "data-class" in button]
    assert [button["data-class"] for button in filters] == ["3", "200", "1", "200", "3"]
    names = [text for text in page.text("button") if text not in ("All classes", "✕", "‹", "›")]
    assert names == ["<b>ird & co", "class 200", "nowhere", "class 200", "<b>ird & co"]
    assert page.text("span") == ["3", "1", "30%", "1.2%"]
    assert cards(page) == [
        {"data-name": AWKWARD, "data-classes": "200:0.300000 3:0.012500"},
        {"data-name": "empty.jpg", "data-classes": ""},
    ]
    assert [image["alt"] for image in page.all("img") if image["alt"]] == [
        "<b>ird & co: a.jpg",
        '<b>ird & co: "b".jpg',
        "class 200: a.jpg",
        f"{AWKWARD}: classes",
        f"{AWKWARD}: image",
        "empty.jpg: a.jpg",
    ]
    link = next(link for link in page.all("a") if link["href"] != "#entries")
    assert unquote(link["href"]) == f"labels/{AWKWARD}.png"


def test_page_has_the_colors_of_the_pictures(tmp_path: Path) -> None:
    (path,) = write_class_pages(CLASSES, [], tmp_path / "index.html", n_entries=0, title="t")
    colors = dict(re.findall(r"\.class-(\d+) \{ --color: rgb\(([\d ]+)\) \}", Page(path).source))
    assert list(colors) == ["3", "200", "1"]
    for class_id, color in colors.items():
        np.testing.assert_allclose(np.array(color.split(), float), segment_colors()[int(class_id)], atol=0.5)


def test_page_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    (path,) = write_class_pages(CLASSES, [entry("a", (3, 1.0))], tmp_path / "i.html", n_entries=1, title="t")
    page = Page(path)
    assert "default-src 'none'" in page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    for _, attributes in page.elements:
        for name in ("src", "srcset", "href", "action", "style", "onclick"):
            assert attributes.get(name, "data:").startswith(("data:", "#entries"))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page.source)


def test_controls_can_be_used_without_a_mouse_and_are_absent_without_scripts(tmp_path: Path) -> None:
    entries = [LabelledEntry("a", [CROP, CROP], [(3, 0.5), (1, 0.1)]), entry("b", (200, 0.1))]
    (path,) = write_class_pages(CLASSES, entries, tmp_path / "index.html", n_entries=2, title="t")
    page = Page(path)
    assert page.all("form", id="controls")[0] == {"id": "controls", "hidden": ""}
    assert [option["value"] for option in page.all("option")] == ["run", "name", "share"]
    # Which class is chosen is told; the keyboard stops once at each class, its sheet and each image.
    filters = [button for button in page.all("button") if "data-class" in button]
    assert {button["aria-pressed"] for button in filters} == {"false"}
    stops = [button for button in page.all("button", type="button") if button.get("tabindex") != "-1"]
    assert len([button for button in stops if "id" not in button]) == 3 + 2 + 2
    # The scripts find what they look for.
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes} - {"classes"}
    assert set(re.findall(r'find\([`"]#([a-z]+)', page.source)) == ids
    assert page.all("ul", id="classes")


def test_more_entries_than_a_page_holds(tmp_path: Path) -> None:
    path = tmp_path / "index.html"

    def entries() -> Iterator[LabelledEntry]:
        return (entry(f"{n}.jpg", (3, n / 10)) for n in range(5))

    written = write_class_pages(CLASSES, entries(), path, n_entries=5, title="t", per_page=2)
    assert [page.name for page in written] == ["index.html", "index-2.html", "index-3.html"]
    parsed = [Page(page) for page in written]
    names = [[card["data-name"] for card in cards(page)] for page in parsed]
    assert names == [["0.jpg", "1.jpg"], ["2.jpg", "3.jpg"], ["4.jpg"]]
    # All have the classes to filter by, the first alone their sheets.
    for page in parsed:
        assert [button["data-class"] for button in page.all("button") if "data-class" in button][:3] == [
            "3",
            "200",
            "1",
        ]
    assert [len(page.all("div", **{"class": "sheet pictures"})) for page in parsed] == [3, 0, 0]
    first = [page.read_bytes() for page in written]
    write_class_pages(CLASSES, entries(), path, n_entries=5, title="t", per_page=2)
    assert [page.read_bytes() for page in written] == first


def test_entries_are_read_one_at_a_time(tmp_path: Path) -> None:
    alive: list[int] = []

    class Counted(LabelledEntry):
        def __del__(self) -> None:
            alive.remove(id(self))

    def entries() -> Iterator[LabelledEntry]:
        for n in range(20):
            counted = Counted(f"{n}.jpg", [CROP], [(3, 0.5)])
            alive.append(id(counted))
            assert len(alive) <= 2
            yield counted

    write_class_pages(CLASSES, entries(), tmp_path / "index.html", n_entries=20, title="t", per_page=15)
    assert alive == []


def test_wrong_classes_are_refused_and_leave_the_page_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text("before")
    for wrong in (0, 256):
        with pytest.raises(ValueError, match=rf"different ids from 1 to 255, got \[3, {wrong}\]"):
            write_class_pages([CLASSES[0], replace(CLASSES[1], id=wrong)], [], path, n_entries=0, title="t")
    with pytest.raises(ValueError, match=r"different ids from 1 to 255, got \[3, 3\]"):
        write_class_pages([CLASSES[0]] * 2, [], path, n_entries=0, title="t")
    with pytest.raises(ValueError, match=r"a.jpg must contain known classes \[1, 3, 200\], got \[4\]"):
        write_class_pages(CLASSES, [entry("a.jpg", (3, 0.1), (4, 0.1))], path, n_entries=1, title="t")
    with pytest.raises(ValueError, match="n_entries = 2, got only 1"):
        write_class_pages(CLASSES, [entry("a.jpg")], path, n_entries=2, title="t")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
