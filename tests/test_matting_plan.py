from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deepspec import Features, full_resolution
from deepspec.checks import check_max_memory
from deepspec.matting_plan import MattingPlan, plan_matting


def plan(size: tuple[int, int], features: Features | None = None, **options: Any) -> MattingPlan:
    """Of five layers without a trimap, but for `options`."""
    given: dict[str, Any] = {
        "affinity": "patch",
        "k": 5,
        "n_layers": 5,
        "guided": False,
        "colors": False,
        "max_memory": 1e12,
        "threads": 1,
    }
    return plan_matting(size, features, **{**given, **options})


def test_what_is_held_beside_the_eigenvectors_is_counted() -> None:
    pairs = full_resolution.plan((100, 200), None, k=5, max_memory=1e12, threads=1)
    found = plan((100, 200))
    assert found.eigenpairs == pairs
    # The photograph has 3 bytes a pixel, what is known of it 5.
    assert found.bytes == pairs.bytes + 3 * 20_000
    assert plan((100, 200), guided=True).bytes == pairs.bytes + 8 * 20_000
    assert found.line == f"200 x 100 pixels: about {found.bytes / 1e6:.0f} MB of memory"
    features = Features(np.ones((5, 10, 7), np.float32), (20, 20))
    lifted = full_resolution.plan((100, 200), features, k=5, max_memory=1e12, threads=1)
    assert plan((100, 200), features).bytes == lifted.bytes + 3 * 20_000 + 4 * 5 * 10 * 7


def test_eigenvectors_have_what_remains() -> None:
    size = (2000, 3000)
    found = plan(size, max_memory=1.5e9)
    assert found.eigenpairs.tile is not None
    assert found.eigenpairs == full_resolution.plan(size, None, k=5, max_memory=1.5e9 - 18e6, threads=1)
    assert found.bytes <= 1.5e9
    assert "and polished in tiles of" in found.line
    # Within its own estimate it would be done the same way.
    again = full_resolution.plan(size, None, k=5, max_memory=found.eigenpairs.bytes + 1, threads=1)
    assert again == found.eigenpairs


def test_layers_that_do_not_fit_are_told_before_the_eigenvectors() -> None:
    """100 layers of 6 megapixels have 2.4 GB, however small a copy is."""
    with pytest.raises(
        MemoryError,
        match=r"the layers of 3000 x 2000 pixels need .* MB of memory, there are .* MB; fewer layers \(100\) or",
    ):
        plan((2000, 3000), n_layers=100, max_memory=1.5e9)
    # Two layers fit, the colours of a foreground do not.
    few = {"n_layers": 2, "k": 2, "max_memory": 5e8}
    assert plan((2000, 3000), **few).bytes <= 5e8
    with pytest.raises(MemoryError, match="the layers of 3000 x 2000 pixels"):
        plan((2000, 3000), **few, colors=True)
    with pytest.raises(MemoryError, match="the eigenvectors of 3000 x 2000 pixels"):
        plan((2000, 3000), n_layers=2, max_memory=4e8)


def test_max_memory_is_a_number_of_bytes() -> None:
    check_max_memory(None)
    check_max_memory(1e9)
    for wrong in (0, -1.0, float("nan"), "4G"):
        with pytest.raises(ValueError, match="max_memory must be a number of bytes above 0, got"):
            check_max_memory(wrong)  # type: ignore[arg-type]
