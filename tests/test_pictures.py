from __future__ import annotations

import numpy as np

from deepspec.pictures import segment_colors


def test_colors_of_the_first_twenty_labels_can_be_told_apart() -> None:
    colors = segment_colors()
    assert colors.shape == (256, 3)
    assert colors.min() >= 0
    assert colors.max() <= 255
    np.testing.assert_allclose(colors[0], [255, 76.5, 76.5])
    # The hue of 9 is 9 · 0.618034 mod 1 = 0.562306, of which 6 · 0.562306 − 3 = 0.373836 is past cyan.
    np.testing.assert_allclose(colors[9], [0, (1 - 0.373836) * 0.85 * 255, 0.85 * 255], atol=0.01)
    first = colors[1:21]
    distances = np.linalg.norm(first[:, None] - first, axis=2)[~np.eye(20, dtype=bool)]
    assert distances.min() > 50
