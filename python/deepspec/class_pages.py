"""An HTML page of classes: what each looks like, and where in each image it was found."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspec.pages import Frame, html_text, picture_button, resource, run_header, url_path, write_cards
from deepspec.pictures import Panel, check_labels, panel, scaled, segment_colors, shade_segments


@dataclass(frozen=True)
class ClassSummary:
    """What a page shows of one class.

    Attributes
    ----------
    id : int
        In [1, 255]: its label.
    name : str or None
        None is shown as "class" and the id.
    share : float
        Of all images' pixels, in [0, 1].
    n_images, n_segments : int
        Where it was found.
    sheet : sequence of Panel
        Crops of its segments in the order in which they are shown, see `crop_panel`: the first large, so that 15 or 21
        fill their rows.
    """

    id: int
    name: str | None
    share: float
    n_images: int
    n_segments: int
    sheet: Sequence[Panel] = ()

    @property
    def title(self) -> str:
        return f"class {self.id}" if self.name is None else self.name


@dataclass(frozen=True)
class LabelledEntry:
    """What a page shows of one labelled image.

    Attributes
    ----------
    name : str
    panels : sequence of Panel
        At least one; see `overlay_panels`.
    classes : sequence of (int, float)
        The ids that the image contains, without the background, and their shares of its pixels.
    link : str or None
        The labels' path, relative to the page, with forward slashes.
    """

    name: str
    panels: Sequence[Panel]
    classes: Sequence[tuple[int, float]]
    link: str | None = None


def overlay_panels(
    image: NDArray[np.uint8], labels: NDArray[np.integer[Any]], *, height: int = 240
) -> list[Panel]:
    """An image in the colours of its classes, and the image.

    Parameters
    ----------
    image : (H, W, 3) uint8
    labels : (H, W) int
        In [0, 255]; 0 stays without colour.
    height : int
        Of the pictures, in pixels; images more than twice as wide as high become lower instead.

    Raises
    ------
    ValueError
        The labels do not fit the image, or the height is below 1.
    """
    check_labels(labels, image)
    photo, _ = scaled(image, height)
    return [panel("classes", shade_segments(photo, labels)), panel("image", photo)]


def crop_panel(caption: str, crop: NDArray[np.uint8], *, height: int = 120) -> Panel:
    """A segment's crop, (h, w, 3), for `ClassSummary.sheet`; the caption says which image it is from.

    Raises
    ------
    ValueError
        The height is below 1.
    """
    return panel(caption, scaled(crop, height)[0])


def write_class_pages(
    classes: Sequence[ClassSummary],
    entries: Iterable[LabelledEntry],
    path: str | os.PathLike[str],
    *,
    n_entries: int,
    title: str,
    facts: Mapping[str, str] | None = None,
    failures: Mapping[str, str] | None = None,
    per_page: int = 300,
) -> list[Path]:
    """Write pages as `pages.write_pages` does: the classes, then the images, which can be filtered by class.

    The first page shows the classes' sheets, those that follow their names alone.

    Parameters
    ----------
    classes : sequence of ClassSummary
        In the order in which they are shown.
    entries : iterable of LabelledEntry
        In the order in which they are shown; read one at a time.
    path, n_entries, title, facts, failures, per_page
        See `pages.write_pages`.

    Returns
    -------
    list of Path
        The pages.

    Raises
    ------
    ValueError
        An id is not in [1, 255] or given twice, an entry contains another class, there are more or fewer entries than
        `n_entries`, or no entry fits a page.
    OSError
        A page cannot be written.
    """
    titles = _titles(classes)
    frame = Frame(
        title,
        header=run_header(title, n_entries, facts or {}, failures or {}),
        first=_class_grid(classes),
        later=_class_list(titles),
        controls=_CONTROLS,
        footer="<p>Classes were found without labels; parts without colour are background.</p>\n",
        style=resource("page.css") + resource("class_page.css") + _colors(titles),
        script=resource("class_page.js"),
    )
    cards = map(partial(_card, titles=titles), entries)
    return write_cards(cards, path, n_entries=n_entries, frame=frame, per_page=per_page)


_CONTROLS = """<form id="controls" hidden>
<button id="all" type="button" hidden>All classes</button>
<label>Name <input id="filter" type="search" placeholder="contains …"></label>
<label>Sort <select id="sort">
<option value="run">as in the run</option>
<option value="name">by name</option>
<option value="share">largest share of the class first</option>
</select></label>
<output id="shown" for="filter"></output>
</form>
"""


def _titles(classes: Sequence[ClassSummary]) -> dict[int, str]:
    titles = {known.id: known.title for known in classes}
    wrong = [known.id for known in classes if not 1 <= known.id <= 255]
    if wrong or len(titles) < len(classes):
        raise ValueError(
            f"classes must have different ids from 1 to 255, got {[known.id for known in classes]}"
        )
    return titles


def _colors(ids: Iterable[int]) -> str:
    """A style for each class: its colour in the pictures."""
    colors = np.rint(segment_colors()).astype(int).tolist()
    return "".join(
        f".class-{known} {{ --color: rgb({' '.join(map(str, colors[known]))}) }}\n" for known in ids
    )


def _class_list(titles: Mapping[int, str]) -> str:
    chips = "".join(_chip(known, title) for known, title in titles.items())
    return f'<ul id="classes" class="legend">\n{chips}</ul>\n'


def _class_grid(classes: Sequence[ClassSummary]) -> str:
    largest = max((known.share for known in classes), default=0.0) or 1.0
    cards = "".join(_class_card(known, known.share / largest) for known in classes)
    count = f"{len(classes)} class" + ("" if len(classes) == 1 else "es")
    return (
        f'<div class="overview"><p>{count}</p><a href="#entries">to the images ↓</a></div>\n'
        f'<ul id="classes">\n{cards}</ul>\n'
    )


def _class_card(known: ClassSummary, length: float) -> str:
    # One stop of the tab key for all of a sheet's pictures.
    crops = "".join(
        picture_button(known.title, crop, tab_stop=index == 0) for index, crop in enumerate(known.sheet)
    )
    count = f"{_percent(known.share)} of the pixels, {_plural(known.n_images, 'image')}, {_plural(known.n_segments, 'segment')}"
    number = "" if known.name is None else f' <span class="id">{known.id}</span>'
    return (
        f'<li class="class-{known.id}">\n<h2><button type="button" data-class="{known.id}" aria-pressed="false">'
        f"{html_text(known.title)}{number}</button></h2>\n<p>{count}</p>\n"
        f'<svg class="bar" aria-hidden="true"><rect width="{100 * length:.1f}%" height="100%"></rect></svg>\n'
        f'<div class="sheet pictures">\n{crops}</div>\n</li>\n'
    )


def _card(entry: LabelledEntry, titles: Mapping[int, str]) -> str:
    unknown = [class_id for class_id, _ in entry.classes if class_id not in titles]
    if unknown:
        raise ValueError(f"{entry.name} must contain known classes {sorted(titles)}, got {unknown}")
    name = html_text(entry.name)
    shares = " ".join(f"{class_id}:{share:.6f}" for class_id, share in entry.classes)
    heading = name if entry.link is None else f'<a href="{url_path(entry.link)}">{name}</a>'
    pictures = "".join(
        picture_button(entry.name, panel, tab_stop=index == 0) for index, panel in enumerate(entry.panels)
    )
    # Not a stop of the tab key each: the grid of classes does the same.
    chips = "".join(
        _chip(class_id, titles[class_id], share, tab_stop=False) for class_id, share in entry.classes
    )
    return (
        f'<li data-name="{name}" data-classes="{shares}">\n<div class="pair">\n{pictures}</div>\n'
        f'<h2>{heading}</h2>\n<ul class="legend">\n{chips}</ul>\n</li>\n'
    )


def _chip(class_id: int, title: str, share: float | None = None, *, tab_stop: bool = True) -> str:
    amount = "" if share is None else f" <span>{_percent(share)}</span>"
    stop = "" if tab_stop else ' tabindex="-1"'
    return (
        f'<li class="class-{class_id}"><button type="button" data-class="{class_id}" aria-pressed="false"{stop}>'
        f"{html_text(title)}{amount}</button></li>\n"
    )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
