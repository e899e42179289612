"""A dataset of images without labels → label maps of the classes that occur in it (section 3.5, Table 4)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deepspec.checks import check_choice, check_whole
from deepspec.class_names import read_names
from deepspec.classical import Classical
from deepspec.clustering import CLUSTERINGS
from deepspec.dataset_clusters import DatasetClusters
from deepspec.dataset_run import DatasetRun, Progress, Segmentation
from deepspec.decomposition import check_settings, plain_weight
from deepspec.features import FeatureSource, settings_of, takes_masks
from deepspec.label_maps import ClusterMaps
from deepspec.refine import REFINEMENTS
from deepspec.regions import BACKGROUNDS
from deepspec.semantic_stages import POOLS, Crops, Eigenvectors, FeatureSegments, Patches, Segments, Source
from deepspec.stages import Stage

_MOST_CLUSTERS = 254  # 255 is of pixels that are not known

#: Ours, and two that Table 4 compares it with: clusters of all cells of the features' grids, and of the mean features of
#: what k-means finds in each image's features.
METHODS = ("deep-spectral", "cluster-patch", "cluster-seg")
_STAGES = {
    "deep-spectral": ("eigenvectors", "segments", "crops", "clusters"),
    "cluster-patch": ("patches", "clusters"),
    "cluster-seg": ("patches", "feature-segments", "clusters"),
}


def segment_dataset(
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    features: FeatureSource = "dino_vits16",
    *,
    method: str = "deep-spectral",
    fit_on: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
    backbone: Mapping[str, Any] | None = None,
    max_size: int | None = 1024,
    k: int = 15,
    color_weight: float = 10.0,
    grid: str | int = "auto",
    n_segments: int | str = 15,
    background: str = "border",
    segment_seed: int = 0,
    erode: int = 2,
    dilate: int = 5,
    pool: str = "crop",
    n_classes: int = 20,
    clustering: str = "minibatch",
    n_components: int | None = None,
    n_restarts: int = 1,
    seed: int = 0,
    refine: str = "none",
    panoptic: bool = False,
    names: str | os.PathLike[str] | None = None,
    until: str | None = None,
    engine: str = "local",
    address: str | None = None,
    jobs: int = 1,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Segmentation:
    """Find classes in images without labels (section 3.5).

    Every image is taken apart into segments by its eigenvectors; the segment at its border is background. The others
    are described by the network's vector of a crop around them (its [CLS] token, or pooled features), and these are
    clustered over the whole dataset: a cluster is a class.

    Each stage keeps its results in `output/.stages`, in a folder named after all settings they depend on: a second call
    does only what is missing, and with another option what depends on it. An interrupted run goes on where it
    was. Memory does not grow with the number of images, but for the segments' vectors, which are mapped from a file.

    Parameters
    ----------
    inputs : path or several
        Image files, and folders that are searched for them.
    output : path
        Folder: `labels/` with a palette PNG for each image (0 background, classes from 1 on), `grid/` with the same at
        the resolution of the graph, `index.html`, `classes/` with a sheet of each class's most typical segments,
        `classes.json`, `stuff.json` (COCO) and `run.json`.
    features : str or callable
        A name, a loaded backbone, or a callable with `settings`, which tell its results from others'; see
        `features.extract` and `features.embed_all`. For several jobs and for Ray it must be a name, or something that can
        be pickled.
    method : {"deep-spectral", "cluster-patch", "cluster-seg"}
        See `METHODS`. The other two know no background: they make `n_classes + 1` clusters, and 0 does not occur. What
        concerns eigenvectors and crops is not theirs.
    fit_on : path or several, optional
        The images, or folders of them, whose segments the clusters are fitted to, all among `inputs`; the others' go to the nearest cluster.
        None: all.
    backbone : mapping, optional
        Where `features` is a name: what `load_backbone` takes besides.
    max_size, k, color_weight, grid
        See `decompose`. k − 1 eigenvectors are used: the constant one says nothing.
    n_segments, background, segment_seed
        See `segment_regions`; the seed is that of k-means within an image.
    erode, dilate : int
        By how many cells a segment is made smaller, unless it would vanish, and larger before the box around it
        is cropped.
    pool : {"crop", "segment"}
        Whether the vector is of the whole crop, or of the segment's pixels in it, which suits `"classical"` features and
        callables; a network's [CLS] token is of the crop.
    n_classes : int
        Clusters besides the background, from 1 to 254.
    clustering, n_components, n_restarts, seed
        See `clustering.cluster_vectors`.
    refine : {"none", "crf", "pydensecrf", "guided"}
        How the label maps' outlines follow the images'.
    panoptic : bool
        Also write `panoptic/` and `panoptic.json`, COCO's panoptic format.
    names : path, optional
        What the classes are called: see `class_names.read_names`.
    until : str, optional
        The stage to stop after: "eigenvectors", "segments", "crops" or "clusters"; of the baselines "patches",
        "feature-segments" or "clusters".
    engine : {"local", "ray"}
        What runs the stages: this machine, or a Ray cluster, which sees inputs and output under the same paths. Both do
        the same batches and leave the same files.
    address : str, optional
        Of the Ray cluster.
    jobs : int
        Processes, each with its own network. One that is killed costs what it had in hand, which is done again.
    threads : int, optional
        Of each job; None: the cores available, divided among the jobs, or 1 on Ray.
    progress : callable, optional
        Wraps a stage's results as they come; gets them, the stage's name and their number.

    Returns
    -------
    Segmentation

    Raises
    ------
    ImportError
        Something that is asked for needs an extra of the package.
    OSError
        The network's weights cannot be had, the results cannot be written (`OutputError`), or there is no cluster.
    MemoryError
        A job was killed three times on the same images.
    ValueError
        A parameter is out of range, there is no image, two images would write the same file, all images failed, or there
        are fewer segments than classes.
    """
    check_choice("method", method, METHODS)
    check_choice("pool", pool, POOLS)
    check_choice("background", background, BACKGROUNDS)
    check_choice("clustering", clustering, CLUSTERINGS)
    check_choice("refine", refine, (*REFINEMENTS, "none"))
    if until is not None:
        check_choice("until", until, _STAGES[method])
    graph = _graph(max_size, k, color_weight, grid, n_segments)
    of_segments = {
        "n_segments": n_segments if n_segments == "auto" else check_whole("n_segments", n_segments, 1),
        "background": background,
        "seed": check_whole("segment_seed", segment_seed, 0, 2**32 - 1),
    }
    of_crops = {
        "erode": check_whole("erode", erode, 0),
        "dilate": check_whole("dilate", dilate, 0),
        "pool": pool,
        "max_size": graph["max_size"],
    }
    more = 0 if method == "deep-spectral" else 1
    n_clusters = check_whole("n_classes", n_classes, 1, _MOST_CLUSTERS - more) + more
    of_clusters = {
        "n_clusters": n_clusters,
        "algorithm": clustering,
        "n_components": None if n_components is None else check_whole("n_components", n_components, 1),
        "n_restarts": check_whole("n_restarts", n_restarts, 1),
        "seed": check_whole("seed", seed, 0, 2**32 - 1),
    }
    labelled = None if names is None else read_names(names)
    run = DatasetRun(output, engine, address, jobs, threads, backbone, progress)
    run.find(inputs, fit_on)
    source = Source(features, _with_whole_paths(backbone or {}))
    _check_source(source, method, pool)
    stages = _stages(run, method, source, graph, of_segments, of_crops)
    run.check(stages[-1])
    if labelled is not None:
        labelled.check(run.items, n_clusters)
    with run.opened():
        for stage in stages:
            run.each(stage)
            if stage.name == until:
                return run.result(0, stage.settings)
        clusters = DatasetClusters(run.root, of_clusters, stages[-1], run.items, run.n_fit)
        run.cluster(clusters)
        if until != clusters.name:
            # Of ours, the segments are known before their vectors.
            segments = stages[1] if method == "deep-spectral" else stages[-1]
            maps = ClusterMaps(run.root, refine, segments, clusters, run.output, panoptic, run.threads)
            run.each(maps)
            run.finish(maps, n_clusters, labelled, clusters, segments)
        return run.result(n_clusters, clusters.settings)


def _stages(
    run: DatasetRun,
    method: str,
    source: Source,
    graph: Mapping[str, Any],
    of_segments: Mapping[str, Any],
    of_crops: Mapping[str, Any],
) -> list[Stage]:
    """The stages of a method up to the vectors of segments."""
    of_features = {**settings_of(source.load()), "max_size": graph["max_size"]}
    if method == "deep-spectral":
        of_graph = {**of_features, **graph, "color_weight": plain_weight(graph["color_weight"])}
        eigenvectors = Eigenvectors(run.root, source, of_graph, graph, run.threads)
        segments = Segments(run.root, of_segments, eigenvectors, run.threads)
        return [eigenvectors, segments, Crops(run.root, source, of_crops, segments, run.threads)]
    patches = Patches(run.root, source, of_features, run.threads)
    if method == "cluster-patch":
        return [patches]
    own = {name: of_segments[name] for name in ("n_segments", "seed")}
    return [patches, FeatureSegments(run.root, own, patches, run.threads)]


def _graph(
    max_size: int | None, k: int, color_weight: float, grid: str | int, n_segments: Any
) -> dict[str, Any]:
    """What `decompose_features` takes, checked, as plain values."""
    graph: dict[str, Any] = {"max_size": max_size, "k": k, "color_weight": color_weight, "grid": grid}
    check_settings(**graph, vectors="laplacian", affinity="relu", threshold=0.0, epsilon=0.0)
    least = 3 if n_segments == "auto" else 2
    if k < least:
        raise ValueError(f"k must be at least {least} for segments, got {k}")
    return {
        "max_size": None if max_size is None else int(max_size),
        "k": int(k),
        "color_weight": float(color_weight),
        "grid": grid if isinstance(grid, str) else int(grid),
    }


def _check_source(source: Source, method: str, pool: str) -> None:
    """ValueError where features are none that a dataset can be described by."""
    loaded = source.load()
    if not callable(loaded):
        raise ValueError(  # noqa: TRY004  the project's one error for bad input
            f"features must be a name or a callable for many images, got {type(loaded).__name__}"
        )
    if not hasattr(loaded, "settings"):
        raise ValueError(
            "features must have settings, a dictionary that tells their results on disk from those of others, "
            f"got {getattr(loaded, '__qualname__', type(loaded).__qualname__)} without"
        )
    if method != "deep-spectral" and isinstance(loaded, Classical):
        raise ValueError(
            f"method={method!r} needs features that can be compared across images: classical ones are each image's own"
        )
    if method == "deep-spectral" and pool == "segment" and not takes_masks(loaded):
        raise ValueError(
            "pool='segment' needs classical features or a callable: a network's vector is of a crop"
        )


def _with_whole_paths(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """Options whose file other processes find, wherever they run."""
    weights = backbone.get("weights")
    return {**backbone, **({} if weights is None else {"weights": str(Path(weights).absolute())})}
