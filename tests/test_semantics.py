from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import colored
import numpy as np
import pytest
from colored import Dying, DyingOnce, MeanColors
from PIL import Image
from pycocotools.coco import COCO

from deepspec import images, pipeline
from deepspec.coco import decode_rle
from deepspec.dataset_run import Segmentation
from deepspec.metrics import ConfusionMatrix
from deepspec.outputs import OutputError
from deepspec.semantic_outputs import claimed
from deepspec.semantics import segment_dataset

OPTIONS: dict[str, Any] = {
    "color_weight": 0.0,
    "k": 3,
    "n_segments": 3,
    "n_classes": 3,
    "erode": 1,
    "dilate": 1,
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return colored.write_dataset(tmp_path / "data")


def segment(pictures: Path, output: Path, features: Any = None, **options: Any) -> Segmentation:
    source = MeanColors() if features is None else features
    return segment_dataset(pictures, output, source, **{**OPTIONS, **options})


def label_maps(folder: Path) -> dict[str, np.ndarray]:
    return {
        path.relative_to(folder).as_posix(): np.asarray(Image.open(path))
        for path in sorted((folder / "labels").rglob("*.png"))
    }


def matched_iou(folder: Path, truth: Path, n_clusters: int = 3) -> float:
    matrix = ConfusionMatrix(4, n_clusters + 1)
    for path in sorted(truth.glob("*.png")):
        matrix.add(np.asarray(Image.open(folder / "labels" / path.name)), np.asarray(Image.open(path)))
    return matrix.mean_iou()


def times(folder: Path) -> dict[str, int]:
    """When each file of each stage was written."""
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*.npz")}


def test_classes_are_found(pictures: Path, tmp_path: Path) -> None:
    found = segment(pictures, tmp_path / "out")
    assert (found.n_clusters, found.n_images, found.failed) == (3, 6, {})
    assert found.done == {"eigenvectors": 6, "segments": 6, "crops": 6, "clusters": 1, "labels": 6}
    assert matched_iou(tmp_path / "out", tmp_path / "data" / "labels") > 0.9
    maps = label_maps(tmp_path / "out")
    assert list(maps) == [f"labels/{number}.png" for number in range(6)]
    for labels in maps.values():
        assert labels.shape == (72, 96)
        assert set(np.unique(labels)) <= {0, 1, 2, 3}
        assert labels[0, 0] == labels[-1, -1] == 0
    # Every cell of the graph has the class of its pixels.
    grid = np.asarray(Image.open(tmp_path / "out" / "grid" / "3.png"))
    np.testing.assert_array_equal(np.kron(grid, np.ones((8, 8), np.uint8)), maps["labels/3.png"])


def test_everything_about_all_images_is_written(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(pictures, out, panoptic=True, names=tmp_path / "data")
    maps = label_maps(out)
    run = json.loads((out / "run.json").read_text())["semantic"]
    assert run["settings"]["clusters"]["n_clusters"] == 3
    assert run["settings"]["segments"] == {"n_segments": 3, "background": "border", "seed": 0}
    assert set(run["classes"].values()) == {"background", "red", "green", "blue"}
    statistics = {row["id"]: row for row in json.loads((out / "classes.json").read_text())}
    for label in range(4):
        pixels = [np.count_nonzero(labels == label) for labels in maps.values()]
        assert statistics[label]["n_pixels"] == sum(pixels)
        assert statistics[label]["n_images"] == np.count_nonzero(pixels)
    stuff = COCO(out / "stuff.json")
    for image in stuff.dataset["images"]:
        labels = np.zeros((72, 96), np.uint8)
        for annotation in stuff.imgToAnns[image["id"]]:
            labels[decode_rle(annotation["segmentation"])] = annotation["category_id"]
        np.testing.assert_array_equal(labels, maps["labels/" + image["file_name"]])
    assert {stuff.cats[label]["name"] for label in (1, 2, 3)} == {"red", "green", "blue"}
    panoptic = json.loads((out / "panoptic.json").read_text())
    for annotation in panoptic["annotations"]:
        picture = np.asarray(Image.open(out / "panoptic" / annotation["file_name"])).astype(int)
        np.testing.assert_array_equal(picture @ [1, 256, 65536], maps["labels/" + annotation["file_name"]])
        assert {part["id"] for part in annotation["segments_info"]} == set(
            np.unique(picture @ [1, 256, 65536])
        ) - {0}
    page = (out / "index.html").read_text()
    for name in ("red", "green", "blue", "0.png", "5.png", "clusters: seed"):
        assert name in page
    assert sorted(path.name for path in (out / "classes").iterdir()) == ["1.jpg", "2.jpg", "3.jpg"]


def test_a_second_run_does_nothing(pictures: Path, tmp_path: Path) -> None:
    segment(pictures, tmp_path / "out")
    before, maps = times(tmp_path / "out"), label_maps(tmp_path / "out")
    index = (tmp_path / "out" / "index.html").read_bytes()
    assert segment(pictures, tmp_path / "out").done == {}
    assert times(tmp_path / "out") == before
    assert (tmp_path / "out" / "index.html").read_bytes() == index
    np.testing.assert_equal(label_maps(tmp_path / "out"), maps)


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({"n_classes": 2}, {"clusters", "labels"}),
        ({"seed": 1}, {"clusters", "labels"}),
        ({"refine": "crf"}, {"labels"}),
        ({"dilate": 2}, {"crops", "clusters", "labels"}),
        ({"n_segments": 4}, {"segments", "crops", "clusters", "labels"}),
        ({"k": 4}, {"eigenvectors", "segments", "crops", "clusters", "labels"}),
    ],
)
def test_an_option_redoes_what_depends_on_it(
    pictures: Path, tmp_path: Path, change: dict[str, Any], stages: set[str]
) -> None:
    out = tmp_path / "out"
    segment(pictures, out)
    before, records = times(out), {path: path.stat().st_mtime_ns for path in (out / "labels").iterdir()}
    assert set(segment(pictures, out, **change).done) == stages
    after = times(out)
    assert {name: after[name] for name in before} == before, "what was there is as it was"
    new = {Path(name).parts[1].split("-")[0] for name in set(after) - set(before)}
    # The matrix of all vectors is made anew where they are.
    assert new - {"vectors"} == stages - {"labels"}
    assert ("vectors" in new) == ("crops" in stages)
    assert all(path.stat().st_mtime_ns > time for path, time in records.items())
    # And back: the label maps alone are in a place that both runs share.
    assert set(segment(pictures, out).done) == {"labels"}
    assert times(out) == after


def test_a_changed_image_is_done_again(pictures: Path, tmp_path: Path) -> None:
    segment(pictures, tmp_path / "out")
    image = images.load(pictures / "4.png")
    Image.fromarray(image[::-1].copy()).save(pictures / "4.png")
    found = segment(pictures, tmp_path / "out")
    assert found.done == {"eigenvectors": 1, "segments": 1, "crops": 1, "clusters": 1, "labels": 6}
    segment(pictures, tmp_path / "anew")
    np.testing.assert_equal(label_maps(tmp_path / "out"), label_maps(tmp_path / "anew"))


@pytest.mark.parametrize("stage", ["eigenvectors", "segments", "crops", "labels"])
def test_an_interrupted_run_goes_on(pictures: Path, tmp_path: Path, stage: str) -> None:
    def interrupt(results: Iterable[Any], name: str, total: int) -> Iterable[Any]:
        for number, result in enumerate(results):
            if name == stage and number == 3:
                raise KeyboardInterrupt
            yield result

    with pytest.raises(KeyboardInterrupt):
        segment(pictures, tmp_path / "out", progress=interrupt)
    segment(pictures, tmp_path / "out")
    segment(pictures, tmp_path / "whole")
    for name in ("stuff.json", "classes.json", "index.html", "run.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    np.testing.assert_equal(label_maps(tmp_path / "out"), label_maps(tmp_path / "whole"))


def test_stages_can_be_run_alone(pictures: Path, tmp_path: Path) -> None:
    for stage in ("eigenvectors", "segments", "crops", "clusters"):
        found = segment(pictures, tmp_path / "out", until=stage)
        assert set(found.done) == {stage}
        assert found.classes == ()
        assert not (tmp_path / "out" / "labels").exists()
    assert set(segment(pictures, tmp_path / "out").done) == {"labels"}


def test_clusters_can_be_fitted_to_some_images(pictures: Path, tmp_path: Path) -> None:
    segment(pictures, tmp_path / "out", fit_on=[pictures / "0.png"], n_classes=2)  # red and green
    maps = label_maps(tmp_path / "out")
    assert len(maps) == 6
    # What is neither has the class of one of both.
    assert all(set(np.unique(labels)) <= {0, 1, 2} for labels in maps.values())
    assert maps["labels/0.png"][20, 20] == maps["labels/3.png"][20, 20]
    assert maps["labels/0.png"][30, 60] == maps["labels/5.png"][30, 60] != maps["labels/0.png"][20, 20]
    # All images' clusters are others.
    assert set(segment(pictures, tmp_path / "out", n_classes=2).done) == {"clusters", "labels"}
    with pytest.raises(ValueError, match=r"fit_on must be among the inputs, got .*absent"):
        segment(pictures, tmp_path / "out", fit_on=[pictures / "absent.png"])


@pytest.mark.parametrize("method", ["cluster-patch", "cluster-seg"])
def test_the_baselines_know_no_background(pictures: Path, tmp_path: Path, method: str) -> None:
    found = segment(pictures, tmp_path / "out", method=method)
    assert found.n_clusters == 4
    labels = np.stack(list(label_maps(tmp_path / "out").values()))
    assert labels.min() == 1
    assert labels.max() == 4
    assert matched_iou(tmp_path / "out", tmp_path / "data" / "labels", 4) > 0.8


def test_what_cannot_be_read_is_told_and_left_out(pictures: Path, tmp_path: Path) -> None:
    (pictures / "broken.png").write_bytes(b"not a picture")
    found = segment(pictures, tmp_path / "out")
    assert list(found.failed) == [str(pictures / "broken.png")]
    assert found.n_images == 7
    assert len(label_maps(tmp_path / "out")) == 6
    assert json.loads((tmp_path / "out" / "run.json").read_text())["semantic"]["failed"] == found.failed
    assert "broken.png" in (tmp_path / "out" / "index.html").read_text()
    (pictures / "2.png").write_bytes(b"not a picture")
    assert len(segment(pictures, tmp_path / "out").failed) == 2
    assert not (tmp_path / "out" / "labels" / "2.png").exists(), "it is an earlier run's"
    for path in pictures.iterdir():
        path.write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"no image could be done, such as .*png"):
        segment(pictures, tmp_path / "out")


def test_without_segments_there_is_nothing_to_cluster(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no image has a segment besides its background"):
        segment(pictures, tmp_path / "out", n_segments=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"method": "ours"},
            "method must be one of 'deep-spectral', 'cluster-patch', 'cluster-seg', got 'ours'",
        ),
        ({"n_classes": 0}, "n_classes must be a whole number from 1 to 254, got 0"),
        ({"n_classes": 255}, "n_classes must be a whole number from 1 to 254, got 255"),
        ({"n_segments": 0}, "n_segments must be a whole number of at least 1, got 0"),
        ({"n_segments": "many"}, "n_segments must be a whole number"),
        ({"k": 1}, "k must be at least 2 for segments, got 1"),
        ({"k": 2, "n_segments": "auto"}, "k must be at least 3 for segments, got 2"),
        ({"erode": -1}, "erode must be a whole number of at least 0, got -1"),
        ({"background": "top"}, "background must be one of"),
        ({"clustering": "ward"}, "clustering must be one of"),
        ({"seed": 2**32}, "seed must be a whole number from 0 to 4294967295"),
        ({"refine": "snakes"}, "refine must be one of"),
        (
            {"until": "labels"},
            "until must be one of 'eigenvectors', 'segments', 'crops', 'clusters', got 'labels'",
        ),
        ({"engine": "spark"}, "engine must be one of 'local', 'ray', got 'spark'"),
        ({"address": "head:6379"}, "address is of engine='ray'"),
        ({"jobs": 0}, "jobs must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_settings_are_refused_before_work_begins(
    pictures: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        segment(pictures, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


class Nameless:
    def __call__(self, image: np.ndarray) -> np.ndarray:
        return np.ones((4, 4, 2))


class Locked(MeanColors):
    """A loaded network is such: it has a lock, which no other process can have."""

    def __reduce__(self) -> str:
        raise TypeError("cannot pickle a lock")


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (np.ones((4, 4, 2)), {}, "features must be a name or a callable for many images, got ndarray"),
        (Nameless(), {}, "features must have settings, .* got Nameless without"),
        (
            Locked(),
            {"jobs": 2},
            "features must be a name, or something that other processes can be handed: cannot",
        ),
        (
            "classical",
            {"method": "cluster-seg"},
            "method='cluster-seg' needs features that can be compared across images",
        ),
        (MeanColors(), {"pool": "segment"}, "pool='segment' needs classical features or a callable"),
    ],
)
def test_features_that_cannot_serve_are_refused(
    pictures: Path, tmp_path: Path, features: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        segment(pictures, tmp_path / "out", features, **options)
    assert not (tmp_path / "out").exists()


def test_numbers_of_numpy_are_numbers(pictures: Path, tmp_path: Path) -> None:
    segment(pictures, tmp_path / "out")
    numpys = {"n_classes": np.int64(3), "seed": np.int32(0), "erode": np.uint8(1), "k": np.int64(3)}
    assert segment(pictures, tmp_path / "out", **numpys).done == {}


@pytest.mark.parametrize("file", ["clusters-*/clusters.npz", "vectors-*/index.npz", "vectors-*/vectors.f32"])
def test_a_damaged_file_is_made_again(pictures: Path, tmp_path: Path, file: str) -> None:
    segment(pictures, tmp_path / "out")
    (path,) = (tmp_path / "out" / ".stages").glob(file)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    found = segment(pictures, tmp_path / "out", seed=0 if "clusters.npz" in file else 1)
    assert found.done["clusters"] == 1
    assert path.read_bytes() == whole


def test_more_classes_than_segments_are_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"n_classes must be from 1 to the number of segments to cluster, \d+, got 99"
    ):
        segment(pictures, tmp_path / "out", n_classes=99)


def test_two_runs_in_one_folder_are_kept_apart(pictures: Path, tmp_path: Path) -> None:
    def second(results: Iterable[Any], name: str, total: int) -> Iterable[Any]:
        with pytest.raises(OutputError, match="another run is writing its results here"):
            segment(pictures, tmp_path / "out")
        return results

    segment(pictures, tmp_path / "out", progress=second)


def test_a_killed_job_changes_nothing(pictures: Path, tmp_path: Path) -> None:
    segment(pictures, tmp_path / "one")
    source = DyingOnce(marker=str(tmp_path / "marker"))
    found = segment(pictures, tmp_path / "two", source, jobs=2)
    assert (tmp_path / "marker").exists()
    assert found.failed == {}
    np.testing.assert_equal(label_maps(tmp_path / "two"), label_maps(tmp_path / "one"))


def test_a_batch_that_kills_every_job_ends_the_run(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(MemoryError, match=r"a job was killed 3 times on the 6 images from 0\.png on"):
        segment(pictures, tmp_path / "out", Dying(), jobs=2)
    # What was done is kept.
    assert set(segment(pictures, tmp_path / "out").done) == {"crops", "clusters", "labels"}


# Ray's own: it reads its deprecated settings to check them.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ray_leaves_the_same_label_maps_though_a_worker_is_killed(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster of two nodes, which are processes of this machine. An image fails, and paths are relative."""
    ray = pytest.importorskip("ray")
    from ray import cloudpickle, cluster_utils

    (pictures / "broken.png").write_bytes(b"not a picture")
    monkeypatch.chdir(tmp_path)
    inputs = pictures.relative_to(tmp_path)
    failed = segment(inputs, Path("local")).failed
    assert list(failed) == ["data/images/broken.png"]
    # The workers do not find the tests' modules.
    cloudpickle.register_pickle_by_value(colored)
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        on_ray = {"engine": "ray", "address": cluster.address, "jobs": 2}
        found = segment(inputs, Path("ray"), DyingOnce(marker=str(tmp_path / "marker")), **on_ray)
        assert len(ray.nodes()) == 2
        np.testing.assert_equal(label_maps(tmp_path / "ray"), label_maps(tmp_path / "local"))
        # What a worker raises is raised here.
        (tmp_path / "ray" / "labels" / "0.png").unlink()
        (tmp_path / "ray" / "labels" / "0.png").mkdir()
        with pytest.raises(OutputError, match="cannot be written"):
            segment(inputs, Path("ray"), DyingOnce(marker=str(tmp_path / "marker")), seed=1, **on_ray)
        (tmp_path / "ray" / "labels" / "0.png").rmdir()
    finally:
        ray.shutdown()
        cluster.shutdown()
        cloudpickle.unregister_pickle_by_value(colored)
    assert (tmp_path / "marker").exists()
    assert found.failed == failed
    assert found.done == {"eigenvectors": 6, "segments": 6, "crops": 6, "clusters": 1, "labels": 6}


def test_a_run_without_panoptic_leaves_none_of_another(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(pictures, out, panoptic=True)
    assert (out / "panoptic.json").exists()
    segment(pictures, out)
    assert not (out / "panoptic.json").exists()
    assert list((out / "panoptic").iterdir()) == []


def test_a_deleted_grid_comes_back(pictures: Path, tmp_path: Path) -> None:
    segment(pictures, tmp_path / "out")
    path = tmp_path / "out" / "grid" / "3.png"
    before = path.read_bytes()
    path.unlink()
    assert segment(pictures, tmp_path / "out").done == {"labels": 1}
    assert path.read_bytes() == before


def test_only_sheets_are_deleted_with_earlier_sheets(pictures: Path, tmp_path: Path) -> None:
    segment(pictures, tmp_path / "out")
    (tmp_path / "out" / "classes" / "cat.jpg").write_bytes(b"a user's")
    segment(pictures, tmp_path / "out", n_classes=2)
    names = sorted(path.name for path in (tmp_path / "out" / "classes").iterdir())
    assert names == ["1.jpg", "2.jpg", "cat.jpg"]


@pytest.mark.parametrize("name", ["labels", "grid", "panoptic"])
def test_labels_that_are_no_runs_are_not_overwritten(pictures: Path, tmp_path: Path, name: str) -> None:
    truth = tmp_path / "data" / name
    if name != "labels":
        (tmp_path / "data" / "labels").rename(truth)
    before = {path.name: path.read_bytes() for path in truth.iterdir()}
    with pytest.raises(ValueError, match=rf"data/{name} holds files of no run of semantic: choose another"):
        segment(pictures, tmp_path / "data")
    assert {path.name: path.read_bytes() for path in truth.iterdir()} == before
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"classes.txt", "images", name}


def test_semantic_and_regions_keep_to_folders_of_their_own(pictures: Path, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    segment(pictures, ours)
    with pytest.raises(ValueError, match=r"ours holds label maps of semantic: choose another folder"):
        pipeline.run(pictures, ours, "regions", "classical")
    for _ in pipeline.run(pictures, theirs, "regions", "classical"):
        pass
    before = {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"theirs holds label maps of regions: choose another folder"):
        segment(pictures, theirs)
    assert {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()} == before


def test_other_tasks_share_the_folder_and_its_run_json(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def localize() -> None:
        for _ in pipeline.run(pictures, out, "localize", "classical"):
            pass

    def second(results: Iterable[Any], name: str, total: int) -> Iterable[Any]:
        runs.append(json.loads((out / "run.json").read_text()))
        with pytest.raises(OutputError, match="another run is writing its results here"):
            localize()
        return results

    runs: list[Any] = []
    localize()
    segment(pictures, out, progress=second)
    localize()
    runs.append(json.loads((out / "run.json").read_text()))
    assert all(set(run) == {"localize", "semantic"} for run in runs)
    assert [run["semantic"]["complete"] for run in runs] == [False] * 4 + [True]
    assert runs[-1]["localize"]["complete"]
    assert runs[-1]["semantic"]["inputs"] == [str(pictures / f"{number}.png") for number in range(6)]


def test_a_run_killed_at_its_first_label_map_goes_on(tmp_path: Path) -> None:
    """Nothing but the folder says whose that map is."""
    with claimed(tmp_path, []):
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels" / "a.png").write_bytes(b"")
    with claimed(tmp_path, []):
        pass
    (tmp_path / ".stages").rmdir()
    with pytest.raises(ValueError, match="labels holds files of no run of semantic"), claimed(tmp_path, []):
        pass
