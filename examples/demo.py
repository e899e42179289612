"""Real photographs taken apart without labels, weights or network: a page of pictures, and the results as files.

    python examples/demo.py [-o demo]

The photographs come with scikit-image and scikit-learn.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib import util
from pathlib import Path

from deepspec import decompose, localize, segment_object, segment_regions
from deepspec.images import write_labels, write_mask
from deepspec.plots import Row, save_page

PHOTOGRAPHS = {
    "skimage": [
        "data/astronaut.png",
        "data/camera.png",
        "data/chelsea.png",
        "data/coffee.png",
        "data/motorcycle_left.png",
        "data/rocket.jpg",
    ],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
}
# On classical features the side that touches the border less is a better guess than the smaller one.
FOREGROUND = "border"
N_SEGMENTS = 6


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), metavar="DIR")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    for path in find_photographs():
        started = time.perf_counter()
        row = take_apart(path, output)
        rows.append(row)
        print(f"{describe(row)}, {time.perf_counter() - started:.2f} s", flush=True)
    page = output / "page.png"
    save_page(rows, page)
    print(f"\nEigenvectors, masks and segments are in {output.resolve()}")
    print(f"The page of pictures: {page.resolve()}")
    return 0


def find_photographs() -> list[Path]:
    """The files within the installed packages."""
    found = []
    for package, names in PHOTOGRAPHS.items():
        spec = util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit(f"{package} is not installed: pip install 'deepspec[demo]'")
        found += [Path(spec.origin).parent / name for name in names]
    return found


def take_apart(path: Path, output: Path) -> Row:
    """Decompose one photograph, ask for everything, and write it down."""
    d = decompose(path, "classical")
    box = localize(d, foreground=FOREGROUND)
    mask = segment_object(d, foreground=FOREGROUND)
    labels = segment_regions(d, n_segments=N_SEGMENTS)
    d.save(output / f"{path.stem}.npz")
    with (output / f"{path.stem}_mask.png").open("wb") as file:
        write_mask(mask, file)
    with (output / f"{path.stem}_segments.png").open("wb") as file:
        write_labels(labels, file)
    return Row(path.stem, d, box, mask, labels)


def describe(row: Row) -> str:
    height, width = row.d.image.shape[:2]
    box = row.box
    return (
        f"{row.title:<16} {width} x {height}: box ({box.xmin}, {box.ymin}, {box.xmax}, {box.ymax}) "
        f"with score {box.score:.2f}, object {row.mask.mean():.0%}, {row.labels.max() + 1} segments"
    )


if __name__ == "__main__":
    sys.exit(main())
