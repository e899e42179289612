"""The one stage that looks at all images: their segments' vectors, one matrix on disk, and its clusters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspec._files import replacing
from deepspec.clustering import cluster_vectors
from deepspec.inputs import Input, fingerprint
from deepspec.outputs import writing_to
from deepspec.stages import Stage, digest, read_arrays


class DatasetClusters:
    """Clusters of the segments of all images, numbered from 1: 0 is the background.

    Parameters
    ----------
    root : Path
        Of the folders of all stages.
    settings : mapping
        `n_clusters`, and what `cluster_vectors` takes besides, as plain JSON values.
    before : Stage
        Whose files have `vectors`.
    items : sequence of Input
        All done by it.
    n_fit : int
        To the segments of that many, the first ones, the clusters are fitted.

    Attributes
    ----------
    key : str
        Of everything that the clusters depend on.
    path : Path
        `names` of the images, `starts` of their segments in what follows and one more, `clusters` of all segments
        from 1 on, their `distances` to the centres, `centers` and `inertia`.
    """

    name = "clusters"

    def __init__(
        self, root: Path, settings: Mapping[str, Any], before: Stage, items: Sequence[Input], n_fit: int
    ) -> None:
        self._before = before
        self._items = items
        self._n_fit = n_fit
        self._own = dict(settings)
        self.settings = {**before.settings, self.name: self._own}
        images = digest([[item.name, fingerprint(item.path)] for item in items])
        self._matrix = root / f"vectors-{before.key}-{images}"
        self.key = digest([self.settings, before.key, images, n_fit])
        self.path = root / f"{self.name}-{self.key}" / "clusters.npz"

    def is_done(self) -> bool:
        """Whether the file is there, and whole."""
        try:
            return len(clusters_in(self.path)[0]) == len(self._items)
        except (OSError, ValueError):
            return False

    def compute(self) -> None:
        """Gather the vectors, unless they are, and cluster them.

        Raises
        ------
        OutputError
            A file cannot be written.
        ValueError
            There are fewer segments than clusters, or settings do not fit the vectors.
        """
        try:
            names, starts, channels = self._index()
        except (OSError, ValueError):
            self._gather()
            names, starts, channels = self._index()
        total = int(starts[-1])
        if total == 0:
            raise ValueError("no image has a segment besides its background: there is nothing to cluster")
        file = self._matrix / "vectors.f32"
        vectors = np.memmap(file, np.float32, "r", shape=(total, channels))
        own = {name: value for name, value in self._own.items() if name != "n_clusters"}
        found = cluster_vectors(vectors, self._own["n_clusters"], n_fit=int(starts[self._n_fit]), **own)
        content: dict[str, Any] = {
            "names": names,
            "starts": starts,
            "clusters": found.labels + 1,
            "distances": found.distances,
            "centers": found.centers,
            "inertia": np.array(found.inertia),
        }
        with writing_to(self.path), replacing(self.path) as output:
            np.savez(output, **content)

    def _index(self) -> tuple[NDArray[Any], NDArray[np.int64], int]:
        """Names, where each image's vectors start, and their channels; ValueError where the matrix is not whole."""
        index = read_arrays(self._matrix / "index.npz")
        starts, channels = index["starts"], int(index["channels"])
        if (self._matrix / "vectors.f32").stat().st_size != 4 * starts[-1] * channels:
            raise ValueError(f"{self._matrix}: incomplete")
        return index["names"], starts, channels

    def _gather(self) -> None:
        """All vectors in one file, image after image, without holding them; that of other images goes."""
        for other in self._matrix.parent.glob(f"vectors-{self._before.key}-*"):
            shutil.rmtree(other, ignore_errors=True)
        starts, channels = [0], 0
        file = self._matrix / "vectors.f32"
        with writing_to(file), replacing(file) as output:
            for item in self._items:
                try:
                    vectors = self._before.load(item, "vectors")["vectors"]
                except OSError as error:
                    raise ValueError(f"{item.path}: its vectors cannot be read: {error}") from error
                if len(vectors):
                    channels = channels or vectors.shape[1]
                    if vectors.shape[1] != channels:
                        raise ValueError(
                            f"{item.path}: features must have the same channels for all images, "
                            f"got {vectors.shape[1]} and {channels}"
                        )
                output.write(np.ascontiguousarray(vectors, np.float32).tobytes())
                starts.append(starts[-1] + len(vectors))
        content: dict[str, Any] = {
            # JSON, so that names that are no UTF-8 survive.
            "names": np.array([json.dumps(item.name) for item in self._items]),
            "starts": np.array(starts),
            "channels": np.array(channels),
        }
        index = self._matrix / "index.npz"
        with writing_to(index), replacing(index) as output:
            np.savez(output, **content)


def clusters_in(path: Path) -> tuple[dict[str, int], dict[str, NDArray[Any]]]:
    """The file of `DatasetClusters`: where each image is in it, and its arrays. The last two read are kept.

    Raises
    ------
    OSError
        It is missing.
    ValueError
        It is damaged.
    """
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _read(path: Path, mtime_ns: int) -> tuple[dict[str, int], dict[str, NDArray[Any]]]:
    content = read_arrays(path)
    names = content.pop("names")
    return {json.loads(str(name)): place for place, name in enumerate(names)}, content


def clusters_of(path: Path, item: Input) -> NDArray[np.int32]:
    """The clusters, from 1 on, of an image's segments 1 … n."""
    places, arrays = clusters_in(path)
    place = places[item.name]
    found: NDArray[np.int32] = arrays["clusters"][arrays["starts"][place] : arrays["starts"][place + 1]]
    return found
