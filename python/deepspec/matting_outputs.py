"""The files of a run of matting: of each photograph its layers, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from deepspec import pages
from deepspec._files import replacing, write_json
from deepspec.compositing import backdrop, blend
from deepspec.inputs import Input, fingerprint
from deepspec.matte_layers import COMPOSITE_FILE, FOREGROUND_FILES, Layers, is_file_of_layers
from deepspec.matting_inputs import Background, Guides
from deepspec.outputs import RECORDS, ResultFolder, read_json, read_record, setting_text, writing_to
from deepspec.pictures import panel, scaled


class Mattes(ResultFolder):
    """The folder `mattes/`, which has a folder for each photograph.

    Its layers are kept as long as they are the photograph's; foreground, alpha and composite are made of them
    anew where others are asked for.

    Parameters
    ----------
    folder : Path
    settings : dict
        What determines the layers, as plain JSON values.
    bits : {8, 16}
        Of the files, a channel.
    guides : Guides or None
    front : tuple of int or None
        The layers of the foreground; None: those that `front_layers` finds.
    background : Background or None
        None: no composite.
    page : bool
        Whether there is a page of pictures, `matte.html`.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        *,
        bits: int,
        guides: Guides | None,
        front: tuple[int, ...] | None,
        background: Background | None,
        page: bool = False,
    ) -> None:
        super().__init__(folder, "matte", folder / "mattes", {**settings, "bits": bits})
        self._bits = bits
        self._guides = guides
        self._front = "border" if front is None else list(front)
        self._background = background
        self._page = page

    def source(self, item: Input) -> dict[str, Any]:
        """What tells whether the layers are still the photograph's."""
        guide = self._guides.find(item) if self._guides else None
        return {"image": fingerprint(item.path), "guide": fingerprint(guide) if guide else None}

    def record(self, item: Input) -> dict[str, Any] | None:
        record = self._record_of_layers(item)
        # A run that was killed may have left the layers alone.
        if record is None or record.get("front") != self._front:
            return None
        if self._background is not None and record["background"] != self._background.identity:
            return None
        if self._page and not self._entry_path(item).exists():
            return None
        return record if self._exist(record["files"]) else None

    def files(self, item: Input) -> tuple[Path, ...]:
        record = self._record_of_layers(item)
        if record is None:
            return ()
        return tuple(
            path
            for name in record["files"]
            if (path := self.folder / name).parent.is_relative_to(self.answers)
        )

    def remove(self, item: Input) -> None:
        """Delete what is there of an image that is about to be done, but for layers that are still its own."""
        record = read_record(self._record_path(item))
        if record is None:
            return
        kept = record["layers"] if self._record_of_layers(item) else []
        with writing_to(self.folder):
            if not kept:
                self._record_path(item).unlink(missing_ok=True)
            for name in record["files"]:
                if name not in kept:
                    (self.folder / name).unlink(missing_ok=True)

    def layers(self, item: Input) -> Layers | None:
        """An image's layers; None where they are to be found (again).

        Raises
        ------
        ValueError
            They are there, but somebody has changed them.
        """
        if self._record_of_layers(item) is None:
            return None
        folder = item.below(self.answers, "")
        try:
            return Layers.load(folder)
        except (OSError, ValueError) as error:
            raise ValueError(f"{error}; once {folder} is deleted, the layers are made anew") from error

    def write_layers(self, item: Input, source: Mapping[str, Any], layers: Layers) -> Layers:
        """Write an image's layers, and return what the files hold of them; `source` is that before it was read."""
        with writing_to(self.folder):
            files = layers.save_layers(item.below(self.answers, ""), bits=self._bits)
            self._write_record(item, files, source=source, layers=self._names(files))
        return layers.rounded(self._bits)

    def write_foreground(self, item: Input, layers: Layers) -> str:
        """Write foreground, alpha and composite, and return the line for the screen."""
        folder, record = item.below(self.answers, ""), read_record(self._record_path(item))
        assert record is not None
        line = f"{len(layers.alphas)} layers, foreground {layers.alpha.mean():.0%} of the image"
        with writing_to(self.folder):
            files = [self.folder / name for name in record["layers"]]
            files += layers.save_foreground(folder, bits=self._bits)
            if self._background is not None:
                line += f", over {self._background.name}"
                files.append(folder / COMPOSITE_FILE)
                picture = Image.fromarray(layers.composite(self._background.source))
                with replacing(files[-1]) as file:
                    picture.save(file, format="png")
            if self._page:
                files.append(self._entry_path(item))
                write_json(self._entry(item, layers, line).to_json(), files[-1], indent=None)
            self._write_record(
                item,
                dict.fromkeys(files),
                source=record["source"],
                layers=record["layers"],
                front=self._front,
                background=self._background and self._background.identity,
                line=line,
                score=None,
            )
        return line

    def finish(self, inputs: Sequence[Input], failed: dict[str, str]) -> None:
        """Write what is about all images: the page and `run.json`."""
        if self._page:
            done = [item for item in inputs if str(item.path) not in failed]
            with writing_to(self.folder):
                pages.write_pages(
                    (pages.Entry.from_json(read_json(self._entry_path(item))) for item in done),
                    self.folder / "matte.html",
                    n_entries=len(done),
                    title="deepspec matte",
                    facts={name: setting_text(value) for name, value in self.settings.items()},
                    failures={
                        item.name: failed[str(item.path)] for item in inputs if str(item.path) in failed
                    },
                    footer="Layers lie over gray; those of the foreground are marked with a star.",
                )
        super().finish(inputs, failed)

    def _entry_path(self, item: Input) -> Path:
        return item.below(self.folder / RECORDS / "pages" / "matte", ".json")

    def _entry(self, item: Input, layers: Layers, line: str) -> pages.Entry:
        """Of the page."""
        front = layers.composite(self._background.source if self._background else _GRAY)
        pictures = {"composite" if self._background else "foreground": front, "image": layers.image}
        gray = backdrop(_GRAY, layers.alpha.shape)
        for number, alpha in enumerate(layers.alphas):
            star = "*" if number in layers.front else ""
            pictures[f"layer {number + 1}{star}"] = blend(layers.image, gray, alpha)
        panels = [panel(caption, scaled(picture, _HEIGHT)[0]) for caption, picture in pictures.items()]
        link = (item.below(self.answers, "") / FOREGROUND_FILES[0]).relative_to(self.folder).as_posix()
        return pages.Entry(item.name, panels, None, line, link)

    def _record_of_layers(self, item: Input) -> dict[str, Any] | None:
        record = read_record(self._record_path(item))
        if record is None or record["source"] != self.source(item):
            return None
        return record if self._exist(record["layers"]) else None

    def _exist(self, names: Iterable[str]) -> bool:
        return all((self.folder / name).exists() for name in names)


_GRAY = (160, 160, 160)
_HEIGHT = 240  # pixels


def check_folders(items: Iterable[Input]) -> None:
    """ValueError where one image's folder would have the name of another's file."""
    folders = {item.relative.with_suffix(""): item for item in items}
    for folder, item in folders.items():
        for path in (folder, *folder.parents):
            if is_file_of_layers(path.name) and (other := folders.get(path.parent)) is not None:
                raise ValueError(f"{other.path} and {item.path} would write the same results")
