from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deepspec.inputs import Input
from deepspec.label_maps import Found, LabelMaps


class OneClass(LabelMaps):
    """All pixels are of the class given, and the cell of a grid, where there is to be one."""

    def __init__(self, output: Path, label: int, *, grid: bool = False, panoptic: bool = False) -> None:
        super().__init__(output / ".stages", {"label": label}, None, output, panoptic, threads=1)
        self._label = label
        self._grid = np.full((1, 1), label, np.int32) if grid else None

    def label(self, item: Input, image: NDArray[np.uint8]) -> Found:
        labels = np.full(image.shape[:2], self._label, np.int32)
        return Found(labels, np.zeros(0, np.int32), self._grid)


@pytest.fixture
def item(tmp_path: Path) -> Input:
    path = tmp_path / "in" / "a.png"
    path.parent.mkdir()
    Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(path)
    return Input(path, Path("sub", "a.png"))


def test_a_run_killed_before_its_record_leaves_no_map_that_counts_as_another_runs(
    item: Input, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    first, second = (OneClass(tmp_path / "out", label) for label in (1, 2))
    first([item])
    assert first.is_done(item)
    assert not second.is_done(item)
    with monkeypatch.context() as patch:
        patch.setattr("deepspec.label_maps.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            second([item])
    assert np.unique(np.asarray(Image.open(first.label_path(item)))).tolist() == [2]
    assert not first.is_done(item)
    assert not second.is_done(item)


@pytest.mark.parametrize("folder", ["labels", "grid", "panoptic"])
def test_a_file_that_is_missing_is_made_again(item: Input, tmp_path: Path, folder: str) -> None:
    maps = OneClass(tmp_path / "out", 1, grid=True, panoptic=True)
    maps([item])
    assert maps.record(item)["files"] == ["labels/sub/a.png", "grid/sub/a.png", "panoptic/sub/a.png"]
    before = files_below(tmp_path / "out")
    (tmp_path / "out" / folder / "sub" / "a.png").unlink()
    assert not maps.is_done(item)
    maps([item])
    assert maps.is_done(item)
    assert files_below(tmp_path / "out") == before


def test_what_an_earlier_run_wrote_besides_does_not_stay(item: Input, tmp_path: Path) -> None:
    OneClass(tmp_path / "out", 1, grid=True, panoptic=True)([item])
    maps = OneClass(tmp_path / "out", 1)
    maps([item])
    assert files_below(tmp_path / "out") == {".stages/labels/sub/a.json", "labels/sub/a.png"}
    assert maps.record(item)["files"] == ["labels/sub/a.png"]
    assert maps.is_done(item)


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
