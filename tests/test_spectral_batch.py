"""Many images at a time: what each alone gives, to the bit."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import fields
from pathlib import Path
from typing import Any

import checks
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import deepspec
from deepspec._crew import Crew, result
from deepspec.features import extract

GRIDS = [(7, 9), (16, 16), (1, 5), (24, 30), (5, 5), (12, 40)]


def problem(seed: int, grid: tuple[int, int], channels: int = 16) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = checks.random_features(rng, grid, channels, "smooth")
    image = rng.integers(0, 256, (3 * grid[0], 2 * grid[1], 3), np.uint8)
    return features, image


def assert_same(batch: list[deepspec.Eigenpairs], single: list[deepspec.Eigenpairs]) -> None:
    assert len(batch) == len(single)
    for a, b in zip(batch, single, strict=True):
        for field in fields(deepspec.Eigenpairs):
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), strict=True)


@pytest.mark.parametrize("threads", [1, 2, 3, 16, None])
def test_batch_gives_what_each_alone_gives(threads: int | None) -> None:
    features, images = zip(*(problem(seed, grid) for seed, grid in enumerate(GRIDS)), strict=True)
    batch = deepspec.eigenpairs_batch(features, images, k=4, threads=threads)
    assert_same(batch, [deepspec.eigenpairs(f, i, k=4) for f, i in zip(features, images, strict=True)])


@given(
    picks=st.lists(st.tuples(st.sampled_from(GRIDS[:3]), st.integers(0, 3)), max_size=6),
    options=st.sampled_from(
        [
            {},
            {"color_weight": 0, "k": 1},
            {"color_weight": math.inf, "color": "random_walk"},
            {"laplacian": "unnormalized", "normalize_features": False, "color": "knn_hsv"},
            {"solver": "spectra", "tol": 1e-4, "grid": (8, 8)},
        ]
    ),
    threads=st.integers(1, 4),
)
def test_options_are_those_of_one(
    picks: list[tuple[tuple[int, int], int]], options: dict[str, Any], threads: int
) -> None:
    problems = [problem(seed, grid) for grid, seed in picks]
    features, images = [f for f, _ in problems], [i for _, i in problems]
    batch = deepspec.eigenpairs_batch(features, images, threads=threads, **options)
    assert_same(batch, [deepspec.eigenpairs(f, i, **options) for f, i in problems])


def test_larger_images_share_the_threads_with_small_ones() -> None:
    grids = [(50, 50), (10, 10), (20, 20), (48, 48), (10, 10)]
    problems = [problem(seed, grid, 32) for seed, grid in enumerate(grids)]
    batch = deepspec.eigenpairs_batch([f for f, _ in problems], [i for _, i in problems], threads=3)
    assert_same(batch, [deepspec.eigenpairs(*p) for p in problems])


def test_one_array_holds_features_of_one_grid() -> None:
    stack = np.stack([problem(seed, (9, 8))[0] for seed in range(5)])
    images = np.stack([problem(seed, (9, 8))[1] for seed in range(5)])
    assert_same(
        deepspec.eigenpairs_batch(stack, images),
        [deepspec.eigenpairs(f, i) for f, i in zip(stack, images, strict=True)],
    )
    assert_same(deepspec.eigenpairs_batch(stack), [deepspec.eigenpairs(f) for f in stack])


def test_each_item_may_have_its_grid_and_miss_its_image() -> None:
    (first, image), (second, _) = problem(0, (9, 8)), problem(1, (6, 5))
    batch = deepspec.eigenpairs_batch([first, second], [image, None], grid=[(18, 16), None])
    assert_same(batch, [deepspec.eigenpairs(first, image, grid=(18, 16)), deepspec.eigenpairs(second)])
    alone = deepspec.eigenpairs_batch(None, [image, image], grid=[9, 8], color_weight=math.inf)
    assert_same(alone, 2 * [deepspec.eigenpairs(None, image, grid=(9, 8), color_weight=math.inf)])


def test_photographs_give_what_each_alone_gives(test_data: Path) -> None:
    paths = sorted((test_data / "ECSSD" / "images").glob("*.jpg"))[:6]
    photographs = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    features = [extract(image, "classical").array for image in photographs]
    batch = deepspec.eigenpairs_batch(features, photographs)
    assert_same(batch, [deepspec.eigenpairs(f, i) for f, i in zip(features, photographs, strict=True)])


def test_nothing_gives_nothing() -> None:
    assert deepspec.eigenpairs_batch([]) == []
    assert deepspec.eigenpairs_batch([], []) == []
    assert deepspec.eigenpairs_batch(np.empty((0, 3, 3, 2))) == []


def test_items_may_be_changed_once_the_call_has_returned() -> None:
    features, image = problem(0, (9, 8))
    pairs = deepspec.eigenpairs_batch([features], [image])
    expected = deepspec.eigenpairs(features, image)
    features[:], image[:] = 0, 0
    assert_same(pairs, [expected])


# Errors


def nan_at(row: int, column: int) -> np.ndarray:
    features = problem(0, (4, 5))[0]
    features[row, column, 1] = np.nan
    return features


@pytest.mark.parametrize(
    ("bad", "options", "message"),
    [
        (np.ones((4, 5)), {}, r"item 7: features must be .*\(4, 5\)"),
        (np.ones((4, 5, 2), np.int32), {}, "item 7: features .*int32"),
        (nan_at(2, 3), {}, "item 7: features .*NaN.*row 2, column 3"),
        (None, {}, "item 7: features may be None only"),
        (np.ones((2, 2, 3)), {"k": 6}, "item 7: k must be .* 4 cells .*6"),
    ],
)
def test_a_bad_item_is_named_before_any_work(
    bad: Any, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*args: Any, **options: Any) -> None:
        pytest.fail("work began")

    monkeypatch.setattr("deepspec._core.eigenpairs", work)
    items = [problem(seed, (4, 5))[0] for seed in range(9)]
    items[7] = bad
    with pytest.raises(ValueError, match=message):
        deepspec.eigenpairs_batch(items, **options)


def test_a_bad_image_is_named() -> None:
    features, image = problem(0, (4, 5))
    with pytest.raises(ValueError, match=r"item 1: image must be .*\[0, 1\]"):
        deepspec.eigenpairs_batch([features] * 2, [image, image * 2.0])


@pytest.mark.parametrize(
    ("features", "images", "options", "message"),
    [
        ([np.ones((2, 2, 2))] * 3, [None] * 2, {}, "as many images as features, got 2 and 3"),
        ([np.ones((2, 2, 2))] * 3, None, {"grid": [(2, 2)] * 2}, "one for each of 3 items, got 2"),
        (None, None, {}, "None"),
        (3.0, None, {}, "features must be a sequence of arrays, got float"),
        ([np.ones((2, 2, 2))], "photo.jpg", {}, "images must be a sequence of arrays, got str"),
        ([np.ones((2, 2, 2))], None, {"threads": 0}, "threads.*0"),
        ([np.ones((2, 2, 2))], None, {"grid": (2, 0)}, r"grid.*\(2, 0\)"),
        ([np.ones((2, 2, 2))], None, {"precision": "best"}, "precision.*best"),
    ],
)
def test_bad_arguments_are_named(features: Any, images: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.compile(message)):
        deepspec.eigenpairs_batch(features, images, **options)


def test_errors_of_the_work_keep_their_type_and_name_the_first_item() -> None:
    good = problem(0, (6, 6))[0]
    nothing = np.zeros((6, 6, 2))
    with pytest.raises(ValueError, match=r"item 2: .*no edge"):
        deepspec.eigenpairs_batch([good, good, nothing, good, nothing], threads=2)
    with pytest.raises(MemoryError, match=r"item 1: .*GB"):
        deepspec.eigenpairs_batch([good, good], grid=[(6, 6), (3000, 3000)])
    noise = checks.random_features(np.random.default_rng(13), (20, 20), 64, "noise")
    with pytest.raises(deepspec.ConvergenceError, match=r"item 0: .*tol") as caught:
        deepspec.eigenpairs_batch([noise] * 3, tol=1e-30)
    assert caught.value.pairs.vectors.shape[1:] == (20, 20)


INTERRUPTED = """
import numpy as np
import deepspec
features = np.random.default_rng(14).normal(size=(4, 40, 40, 64)).astype(np.float32)
print("started", flush=True)
try:
    deepspec.eigenpairs_batch(features, color_weight=0, k=600, tol=1e-9, grid=(80, 80), threads=2)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one child process on Windows")
def test_ctrl_c_ends_a_batch() -> None:
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "started\n"
            time.sleep(1.5)
            assert child.poll() is None, "the call was too short to be interrupted"
            child.send_signal(signal.SIGINT)
            # One of the four takes tens of seconds.
            assert child.communicate(timeout=10)[0] == "interrupted\n"
            assert child.returncode == 0
        finally:
            child.kill()


# The threads and the memory


@given(
    total=st.integers(1, 6),
    needs=st.lists(st.tuples(st.integers(1, 9), st.sampled_from([0.0, 0.4, 0.7, 3.0])), max_size=12),
)
def test_a_crew_shares_no_more_than_there_is(total: int, needs: list[tuple[int, float]]) -> None:
    memory = float(deepspec._core.available_memory())
    used: list[tuple[int, float]] = []
    lock = threading.Lock()

    def work(crew: Crew, wanted: int, share: float) -> int:
        with crew.share(wanted, share * memory) as threads:
            with lock:
                used.append((threads, share))
                assert sum(t for t, _ in used) <= total
                assert len(used) == 1 or sum(s for _, s in used) < 1.1
            time.sleep(0.001)
            with lock:
                used.remove((threads, share))
        return threads

    with Crew(total, len(needs)) as crew:
        futures = [crew.submit(work, crew, *need) for need in needs]
        for (wanted, _), future in zip(needs, futures, strict=True):
            assert min(wanted, total) <= result(future) <= total
    if len(needs) == 1:
        assert futures[0].result() == total


def test_leaving_a_crew_ends_what_waits_and_what_polls() -> None:
    begun = threading.Event()

    def hold(crew: Crew) -> None:
        with crew.share(2, 0.0):
            begun.set()
            while True:
                crew.poll()
                time.sleep(0.001)

    with Crew(2, 4) as crew:
        futures = [crew.submit(hold, crew) for _ in range(4)]
        assert begun.wait(20)
    for future in futures:
        with pytest.raises(CancelledError):
            future.result()
