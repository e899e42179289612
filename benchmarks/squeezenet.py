"""SqueezeNet v1.0 in numpy: a small real convolutional network as a `features=` callable.

The network is Iandola et al. (2016), arXiv:1602.07360, up to the last expand layer (fire9, 512 channels, stride 16).
Its weights are not part of this project; `SqueezeNet(path)` reads them from an `.npz` that uses Caffe's layer names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepspec import Features

CAFFE_MEAN_BGR = np.array([104, 117, 123], np.float32)
STRIDE = 16
# Without padding the centre of the first fire9 receptive field is 17.5 pixels from the border; a cell's is 8.
CENTRE_OFFSET = 9

FloatArray = NDArray[np.float32]


class SqueezeNet:
    """Image → mean-centred fire9 activations, on cells of 16 pixels of the image at short side `short_side`.

    Parameters
    ----------
    weights : path of the `.npz` with `conv1.weight (96, 3, 7, 7)`, `fireN/conv1x1_1.weight`, … as float32.
    short_side : pixels the shorter side of the image is resized to, ≥ 64.
    """

    def __init__(self, weights: str | Path, short_side: int = 480) -> None:
        if short_side < 64:
            raise ValueError(f"short_side must be at least 64 pixels, got {short_side}")
        with np.load(weights) as archive:
            self._weights = {name: archive[name] for name in archive.files}
        self.short_side = short_side

    def __call__(self, image: NDArray[np.uint8]) -> Features:
        """Return `Features` of shape (h, w, 512), each channel of mean zero over the image."""
        height, width = image.shape[:2]
        scale = self.short_side / min(height, width)
        size = (round(width * scale), round(height * scale))
        resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        activations = self.fire9(resized)
        activations -= activations.mean(axis=(0, 1))
        cell = (STRIDE * height / resized.shape[0], STRIDE * width / resized.shape[1])
        return Features(activations, cell)

    def fire9(self, image: NDArray[np.uint8]) -> FloatArray:
        """Activations (H // 16, W // 16, 512) of an image (H, W, 3) uint8, cell (i, j) centred at 16·(i, j) + 8."""
        rows, columns = image.shape[0] // STRIDE, image.shape[1] // STRIDE
        x = image[..., ::-1] - CAFFE_MEAN_BGR
        after = [
            (CENTRE_OFFSET, max(0, STRIDE * cells + 2 * CENTRE_OFFSET + 1 - CENTRE_OFFSET - length))
            for cells, length in zip((rows, columns), x.shape[:2], strict=True)
        ]
        x = np.pad(x, [*after, (0, 0)], mode="reflect")
        x = _relu(self._convolve(x, "conv1", stride=2))
        x = _max_pool(x)
        for n in (2, 3, 4):
            x = self._fire(x, n)
        x = _max_pool(x)
        for n in (5, 6, 7, 8):
            x = self._fire(x, n)
        x = self._fire(_max_pool(x), 9)
        return x[:rows, :columns]

    def _fire(self, x: FloatArray, n: int) -> FloatArray:
        squeezed = _relu(self._convolve(x, f"fire{n}/conv1x1_1"))
        expanded = [
            self._convolve(squeezed, f"fire{n}/conv1x1_2"),
            self._convolve(squeezed, f"fire{n}/conv3x3_2", padding=1),
        ]
        return _relu(np.concatenate(expanded, axis=-1))

    def _convolve(self, x: FloatArray, name: str, stride: int = 1, padding: int = 0) -> FloatArray:
        weight = self._weights[f"{name}.weight"]
        size = weight.shape[-1]
        if padding:
            x = np.pad(x, [(padding, padding), (padding, padding), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(0, 1))[::stride, ::stride]
        rows = windows.reshape(-1, weight[0].size)
        output: FloatArray = rows @ weight.reshape(len(weight), -1).T + self._weights[f"{name}.bias"]
        return output.reshape(*windows.shape[:2], -1)


def _relu(x: FloatArray) -> FloatArray:
    return np.maximum(x, 0, out=x)


def _max_pool(x: FloatArray) -> FloatArray:
    """3×3 maximum at stride 2; windows that run over the bottom or right border are kept (Caffe's ceil mode)."""
    padding = [(0, (length - 3) % 2) for length in x.shape[:2]]
    x = np.pad(x, [*padding, (0, 0)], constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(0, 1))[::2, ::2]
    maxima: FloatArray = windows.max(axis=(-2, -1))
    return maxima
