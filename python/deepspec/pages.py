"""An HTML page of a run: what was found in each image, one self-contained file for some hundreds of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from deepspec._files import replacing
from deepspec.decomposition import Decomposition
from deepspec.pictures import (
    Panel,
    check_labels,
    draw_box,
    eigenvector,
    outline_mask,
    panel,
    scaled,
    shade_segments,
)
from deepspec.regions import Box


@dataclass(frozen=True)
class Entry:
    """What a page shows of one image.

    Attributes
    ----------
    name : str
    panels : sequence of Panel
        At least one; the first is shown large.
    score : float or None
        To sort by.
    text : str
        A line below the pictures.
    link : str or None
        The result's path, relative to the page, with forward slashes.
    """

    name: str
    panels: Sequence[Panel]
    score: float | None = None
    text: str = ""
    link: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values, for keeping it in a file until the page is written."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Entry:
        """Back from `to_json`.

        Raises
        ------
        TypeError, KeyError
            The values are not those of `to_json`.
        """
        return cls(**{**values, "panels": [Panel(**panel) for panel in values["panels"]]})


def panels(
    d: Decomposition,
    *,
    box: Box | None = None,
    mask: NDArray[np.bool_] | None = None,
    labels: NDArray[np.integer[Any]] | None = None,
    height: int = 240,
    n_eigenvectors: int = 4,
) -> list[Panel]:
    """Small pictures of a result and of the eigenvectors it came from.

    First the image in the colours of its segments, then the image, with the mask's outline and the box where
    there are any, then y₁, y₂, …: red above zero, blue below, white at zero, gray where the grid does not reach.

    Parameters
    ----------
    d : Decomposition
    box : Box or None
    mask : (H, W) bool or None
    labels : (H, W) int or None
        In [0, 255]; 0 stays without colour.
    height : int
        Of the pictures, in pixels; images more than twice as wide as high become lower instead.
    n_eigenvectors : int
        How many of y₁, y₂, … to show, where there are so many.

    Raises
    ------
    ValueError
        The mask or the labels do not fit the image, or the height is below 1.
    """
    if mask is not None and mask.shape != d.image.shape[:2]:
        raise ValueError(f"mask must have the image's shape {d.image.shape[:2]}, got {mask.shape}")
    if labels is not None:
        check_labels(labels, d.image)
    image, scale = scaled(d.image, height)
    pictures = {}
    if labels is not None:
        pictures["segments"] = shade_segments(image, labels)
    drawn = image.copy()
    if mask is not None:
        drawn = outline_mask(drawn, mask)
    if box is not None:
        draw_box(drawn, box, scale)
    shown = [caption for caption, part in (("object", mask), ("box", box)) if part is not None]
    pictures[" and ".join(shown) or "image"] = drawn
    for index in range(1, min(n_eigenvectors + 1, len(d.pairs.vectors))):
        pictures["y" + str(index).translate(_SUBSCRIPTS)] = eigenvector(d, index, image.size, scale)
    return [panel(caption, picture) for caption, picture in pictures.items()]


_EIGENVECTORS = (
    "y₁, y₂, …: eigenvectors of the image, red above zero, blue below, gray where there is no value."
)


def write_pages(
    entries: Iterable[Entry],
    path: str | os.PathLike[str],
    *,
    n_entries: int,
    title: str,
    facts: Mapping[str, str] | None = None,
    failures: Mapping[str, str] | None = None,
    footer: str = _EIGENVECTORS,
    per_page: int = 300,
) -> list[Path]:
    """Write `path` and, for more entries than a page holds, `path` with -2, -3, … before its extension.

    A page needs nothing beside it. It has the same bytes whenever it is written from the same entries, which are
    read one at a time. Pages that a longer run left after the last one are removed.

    Parameters
    ----------
    entries : iterable of Entry
        In the order in which they are shown.
    path : path
        Of the first page; each appears whole or not at all.
    n_entries : int
        How many entries there are.
    title : str
    facts : mapping of str to str
        What to say about the run, such as its settings.
    failures : mapping of str to str
        Names of images that could not be done, and why.
    footer : str
        What the captions mean.
    per_page : int

    Returns
    -------
    list of Path
        The pages.

    Raises
    ------
    ValueError
        There are more or fewer entries than `n_entries`, or no entry fits a page.
    OSError
        A page cannot be written.
    """
    frame = Frame(
        title,
        header=run_header(title, n_entries, facts or {}, failures or {}),
        controls=_CONTROLS,
        footer=f"<p>{html_text(footer)}</p>\n",
        style=resource("page.css"),
        script=resource("page.js"),
    )
    return write_cards(map(_card, entries), path, n_entries=n_entries, frame=frame, per_page=per_page)


@dataclass(frozen=True)
class Frame:
    """What surrounds the cards of a page. All but the title is HTML, CSS or a script.

    Attributes
    ----------
    title : str
        Of the window, as plain text.
    header : str
        Above everything.
    controls : str
        Just above the cards.
    footer : str
    style, script : str
    first, later : str
        Between the header and the controls: on the first page, and on those that follow.
    """

    title: str
    header: str
    controls: str
    style: str
    script: str
    footer: str = ""
    first: str = ""
    later: str = ""


def write_cards(
    cards: Iterable[str], path: str | os.PathLike[str], *, n_entries: int, frame: Frame, per_page: int
) -> list[Path]:
    """Write pages of cards, each an `<li>`, the way of `write_pages`.

    Raises
    ------
    ValueError
        There are more or fewer cards than `n_entries`, or none fits a page.
    OSError
        A page cannot be written.
    """
    if per_page < 1:
        raise ValueError(f"per_page must be at least 1, got {per_page}")
    n_pages = max(1, -(-n_entries // per_page))
    paths = [_numbered(Path(path), number) for number in range(1, n_pages + 1)]
    remaining = iter(cards)
    written = 0
    for number, page in enumerate(paths, start=1):
        with replacing(page) as file:
            part = islice(remaining, min(per_page, n_entries - written))
            written += _write_page(file, frame, part, paths, number)
            if written != min(number * per_page, n_entries):
                raise ValueError(f"entries must be n_entries = {n_entries}, got only {written}")
    if next(remaining, None) is not None:
        raise ValueError(f"entries must be n_entries = {n_entries}, got more")
    stale = n_pages + 1
    while _numbered(Path(path), stale).exists():
        _numbered(Path(path), stale).unlink()
        stale += 1
    return paths


def run_header(title: str, n_entries: int, facts: Mapping[str, str], failures: Mapping[str, str]) -> str:
    """HTML of a run's title, the number of its images, facts about it, and what failed."""
    count = f"{n_entries} image" + ("" if n_entries == 1 else "s")
    if failures:
        count += f", {len(failures)} more failed"
    parts = [f"<h1>{html_text(title)}</h1>\n<p>{count}</p>\n"]
    if facts:
        items = "".join(
            f"<div><dt>{html_text(name)}</dt><dd>{html_text(value)}</dd></div>\n"
            for name, value in facts.items()
        )
        parts.append(f'<dl class="facts">\n{items}</dl>\n')
    if failures:
        items = "".join(
            f"<li><b>{html_text(name)}</b>: {html_text(reason)}</li>\n" for name, reason in failures.items()
        )
        is_open = " open" if len(failures) <= 5 else ""
        parts.append(
            f"<details{is_open}>\n<summary>{len(failures)} failed</summary>\n<ul>\n{items}</ul>\n</details>\n"
        )
    return "".join(parts)


def picture_button(name: str, panel: Panel, *, tab_stop: bool = True) -> str:
    """HTML of a picture that the viewer enlarges, `name` and its caption being its alternative text."""
    caption = html_text(panel.caption)
    stop = "" if tab_stop else ' tabindex="-1"'
    return (
        f'<figure><button type="button"{stop}><img src="data:image/jpeg;base64,{panel.jpeg}" '
        f'alt="{html_text(name)}: {caption}" width="{panel.width}" height="{panel.height}" decoding="async"></button>'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def html_text(text: str) -> str:
    """For HTML text and attributes; bytes of a file's name that are no UTF-8 become question marks."""
    return escape(text.encode("utf-8", "replace").decode())


def url_path(path: str) -> str:
    """A path, relative to the page, as an address."""
    return quote(path, errors="surrogateescape")


def resource(name: str) -> str:
    """A style or a script of the package."""
    return (resources.files("deepspec") / name).read_text("utf-8")


_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _write_page(
    file: IO[bytes], frame: Frame, cards: Iterable[str], paths: Sequence[Path], number: int
) -> int:
    """Write one page and return how many cards it holds."""
    navigation = _navigation(paths, number)
    before = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{html_text(frame.title)}{f", page {number}" if number > 1 else ""}</title>
<link rel="icon" href="data:,">
<style>
{frame.style}</style>
</head>
<body>
<header>
{frame.header}{navigation}</header>
<main>
{frame.first if number == 1 else frame.later}{frame.controls}<ul id="entries" class="pictures">
"""
    after = f"""</ul>
</main>
<footer>
{navigation}{frame.footer}</footer>
{_VIEWER}<script>
{resource("viewer.js")}{frame.script}</script>
</body>
</html>
"""
    count = 0
    file.write(before.encode())
    for card in cards:
        file.write(card.encode())
        count += 1
    file.write(after.encode())
    return count


_CONTROLS = """<form id="controls" hidden>
<label>Name <input id="filter" type="search" placeholder="contains …"></label>
<label>Sort <select id="sort">
<option value="run">as in the run</option>
<option value="name">by name</option>
<option value="low">lowest score first</option>
<option value="high">highest score first</option>
</select></label>
<output id="shown" for="filter"></output>
</form>
"""
_VIEWER = """<dialog id="viewer" aria-label="Enlarged picture">
<form method="dialog"><button aria-label="Close">✕</button></form>
<button id="previous" type="button" aria-label="Previous picture">‹</button>
<figure><img alt=""><figcaption></figcaption></figure>
<button id="next" type="button" aria-label="Next picture">›</button>
</dialog>
"""


def _navigation(paths: Sequence[Path], number: int) -> str:
    """Links to the neighbouring pages, or nothing where there is one page."""
    if len(paths) == 1:
        return ""
    links = [f"<span>page {number} of {len(paths)}</span>"]
    if number > 1:
        links.insert(0, f'<a rel="prev" href="{url_path(paths[number - 2].name)}">← previous</a>')
    if number < len(paths):
        links.append(f'<a rel="next" href="{url_path(paths[number].name)}">next →</a>')
    return f'<nav aria-label="Pages">{" ".join(links)}</nav>\n'


def _card(entry: Entry) -> str:
    name = html_text(entry.name)
    score = "" if entry.score is None else f' data-score="{float(entry.score)!r}"'
    shown_score = "" if entry.score is None else f'<span class="score">score {entry.score:.2f}</span> '
    heading = name if entry.link is None else f'<a href="{url_path(entry.link)}">{name}</a>'
    # One stop of the tab key an entry: in the viewer, arrow keys reach the other pictures.
    first = picture_button(entry.name, entry.panels[0])
    others = [picture_button(entry.name, panel, tab_stop=False) for panel in entry.panels[1:]]
    strip = f'<div class="strip">\n{"".join(others)}</div>\n' if others else ""
    return (
        f'<li data-name="{name}"{score}>\n{first}{strip}'
        f"<h2>{heading}</h2>\n<p>{shown_score}{html_text(entry.text)}</p>\n</li>\n"
    )
