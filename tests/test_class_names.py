from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepspec.class_names import read_names
from deepspec.inputs import Input

# Clusters 1, 2 and 3 of two images.
MAPS = {
    "a/x.jpg": np.array([[0, 1, 1, 2], [0, 1, 1, 2]]),
    "a/y.png": np.array([[3, 3, 0, 2], [3, 3, 0, 2]]),
}
ITEMS = [Input(Path("/photos") / name, Path(name)) for name in MAPS]


def named(path: Path, n_clusters: int = 3) -> dict[int, str]:
    names = read_names(path)
    names.check(ITEMS, n_clusters)
    return names.name(ITEMS, lambda item: MAPS[item.name], n_clusters)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_person_names_classes_by_their_numbers(tmp_path: Path) -> None:
    assert named(written(tmp_path / "names.csv", 'class,name\n3, dog\n1,"cat, or so"\n')) == {
        3: "dog",
        1: "cat, or so",
    }


def test_points_vote_for_the_class_below_them(tmp_path: Path) -> None:
    # Extensions may be left out; a point on the background names nothing.
    text = "\ufeffimage,x,y,name\na/x,1,0,cat\na/x.jpg,2,1,cat\na/x,1,1,dog\na/y.png,3,0,bird\na/y,2,0,sky\n"
    assert named(written(tmp_path / "names.csv", text)) == {1: "cat", 2: "bird"}


def truth(folder: Path, names: str) -> Path:
    for name, labels in {"a/x": [[0, 2, 2, 1], [0, 2, 2, 255]], "a/y": [[3, 3, 0, 1], [3, 3, 0, 1]]}.items():
        file = folder / "labels" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(labels, np.uint8)).save(file)
    (folder / "classes.txt").write_text(names)
    return folder


def test_true_label_maps_name_the_classes_they_match(tmp_path: Path) -> None:
    assert named(truth(tmp_path, "ground\ncar\nbus\ntram\n")) == {1: "bus", 2: "car", 3: "tram"}


def test_more_clusters_than_classes_share_names(tmp_path: Path) -> None:
    maps = {**MAPS, "a/x.jpg": np.array([[0, 1, 4, 2], [0, 1, 4, 2]])}
    names = read_names(truth(tmp_path, "ground\ncar\nbus\ntram\n"))
    assert names.name(ITEMS, lambda item: maps[item.name], 4) == {1: "bus", 2: "car", 3: "tram", 4: "bus"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"names.csv must begin with class,name or image,x,y,name, got ''"),
        ("id;name\n1;cat\n", r"must begin with class,name or image,x,y,name, got 'id;name'"),
        ("class,name\none,cat\n", r"names.csv: each line must be class,name: .*'one'"),
        ("class,name\n1\n", r"names.csv: each line must be class,name"),
        ("image,x,y,name\na/x,1,cat\n", r"names.csv: each line must be image,x,y,name"),
        ("class,name\n1,cat\n2,dog\n1,cow\n", r"names.csv must name a class once, got 2 names of class 1"),
        ("class,name\n4,cat\n", r"names are of classes 1 to 3, got one of class 4"),
        ("class,name\n0,sky\n", r"names are of classes 1 to 3, got one of class 0"),
        ("image,x,y,name\na/x,4,0,cat\n", r"a/x.jpg has 4 x 2 pixels, got the point \(4, 0\)"),
        ("image,x,y,name\na/z,0,0,cat\n", r"names are of images that are not in the run, such as a/z"),
    ],
)
def test_what_names_nothing_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        named(written(tmp_path / "names.csv", text))


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.csv"):
        read_names(tmp_path / "absent.csv")
    with pytest.raises(FileNotFoundError, match=r"classes\.txt"):
        read_names(tmp_path)
    (tmp_path / "classes.txt").write_text("ground\ncar\n")
    with pytest.raises(ValueError, match="has no label map of an image of the run"):
        named(tmp_path)
    (tmp_path / "classes.txt").write_bytes("ground\nbär\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"classes\.txt must be UTF-8: .*0xe4"):
        read_names(tmp_path)
    (tmp_path / "names.csv").write_bytes("class,name\n1,bär\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"names\.csv must be a CSV file in UTF-8: .*0xe4"):
        read_names(tmp_path / "names.csv")


def test_true_label_maps_that_do_not_fit_are_named(tmp_path: Path) -> None:
    names = truth(tmp_path, "ground\ncar\nbus\ntram\n")
    file = names / "labels" / "a" / "y.png"
    Image.new("L", (3, 2)).save(file)
    with pytest.raises(ValueError, match=r"a/y\.png, of .*a/y\.png: labels and truth must have one shape"):
        named(names)
    Image.new("L", (4, 2), 4).save(file)
    with pytest.raises(ValueError, match=r"a/y\.png, of .*a/y\.png: truth must be from 0 to 3, got 4 to 4"):
        named(names)


def test_images_that_failed_do_not_vote(tmp_path: Path) -> None:
    def named_by(path: Path) -> dict[int, str]:
        names = read_names(path)
        names.check(ITEMS, 3)
        return names.name(ITEMS[1:], lambda item: MAPS[item.name], 3)

    text = "image,x,y,name\na/x,1,0,cat\na/x,9,9,cat\na/y,3,0,bird\n"
    assert named_by(written(tmp_path / "names.csv", text)) == {2: "bird"}
    truth(tmp_path, "ground\ncar\nbus\ntram\n")
    assert named_by(tmp_path) == {2: "car", 3: "tram"}
    (tmp_path / "labels" / "a" / "y.png").unlink()
    assert named_by(tmp_path) == {}
