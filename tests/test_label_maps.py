from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deepspec.inputs import Input
from deepspec.label_maps import Found, LabelMaps


class OneClass(LabelMaps):
    """All pixels are of the class given."""

    def __init__(self, output: Path, label: int) -> None:
        super().__init__(output / ".stages", {"label": label}, None, output, panoptic=False, threads=1)
        self._label = label

    def label(self, item: Input, image: NDArray[np.uint8]) -> Found:
        return Found(np.full(image.shape[:2], self._label, np.int32), np.zeros(0, np.int32))


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
