"""The commands under benchmarks/ run and print what they promise, and what they measure is right."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import affinities
import classical
import dinov2
import eigenpairs
import graphs
import measures
import methods
import neighbors
import numpy as np
import objects
import oracle
import problems
import pytest
import report
import results
import scipy.sparse
from PIL import Image

import deepspec

# Numba and PyMatting may warn of what they do to each other.
pytestmark = pytest.mark.filterwarnings("default")

GRID = (12, 14)
MATRIX = np.array([[0.0, 1, 0], [1, 2, 3], [0, 3, 0]])  # degrees 1, 6, 3


# The measures, on values worked out by hand


def test_ratio_is_the_median_of_pairs_within_its_interval() -> None:
    ratio = measures.median_ratio([2, 30, 4], [1, 10, 2])
    assert ratio.median == 2
    assert 2 <= ratio.low <= ratio.median <= ratio.high <= 3
    # The ratio of the medians would be 2 here, and is not asked for.
    assert measures.median_ratio([1, 8, 4], [1, 2, 4]).median == 1
    assert measures.median_ratio([6.0] * 5, [2.0] * 5) == (3, 3, 3)


def test_interval_narrows_with_more_rounds() -> None:
    noise = np.random.default_rng(0).lognormal(0, 0.3, 400)
    few, many = (measures.median_ratio(noise[:count], np.ones(count)) for count in (15, 400))
    assert many.high - many.low < (few.high - few.low) / 2
    assert many.low < 1 < many.high


def test_methods_take_turns() -> None:
    order: list[str] = []
    entered: list[str] = []

    @contextlib.contextmanager
    def within(key: str) -> Iterator[None]:
        entered.append(key)
        yield

    calls = {name: partial(order.append, name) for name in "abc"}
    times = measures.in_turns(calls, {"a": 5, "b": 5, "c": 2}, within)
    assert "".join(order) == "abc" + "ab" * 3 + "abc"
    assert entered == order
    assert list(times["a"]) == [0, 1, 2, 3, 4]
    assert list(times["c"]) == [0, 4]


def test_duration_is_in_seconds() -> None:
    assert 0.02 <= measures.duration(partial(time.sleep, 0.02)) < 10


def test_threads_are_limited_and_restored() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    with measures.limit_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def take_memory(megabytes: int) -> None:
    np.ones(megabytes << 17)


def test_peak_memory_is_what_a_call_takes_beyond_its_warm_up() -> None:
    peak = measures.peak_memory(partial(take_memory, 60), partial(take_memory, 30))
    if peak is None:
        pytest.skip("this system does not tell the peak memory of a process")
    assert abs(peak - (30 << 20)) < 3 << 20


def test_angle_between_spaces() -> None:
    x, y, z = np.eye(3)
    turned = math.cos(0.1) * y + math.sin(0.1) * z
    assert graphs.angle(np.column_stack([x, y]), np.column_stack([turned, x])) == pytest.approx(0.1)
    assert graphs.angle(x[:, None], (3 * x)[:, None]) == pytest.approx(0)


def test_angle_bound() -> None:
    assert graphs.angle_bound(1e-5, 0.01) == pytest.approx(2e-3)
    assert graphs.angle_bound(1e-6, 0.01) == 1e-3
    assert graphs.angle_bound(1e-6, 0) == math.pi / 2


def exact_graph(pairs: int = 3) -> graphs.ExactGraph:
    """`MATRIX`, its diagonal and a part above it as colours."""
    gram = np.diag(np.diag(MATRIX)) / 2
    return graphs.ExactGraph(gram, scipy.sparse.csr_array(MATRIX - gram), 0.0, pairs)


def test_errors_by_hand() -> None:
    # (D − W) y = μ D y of the path with a loop: μ = 0 for 1, and μ = 1 for (3, 0, −1).
    graph = exact_graph()
    assert graph.degrees.tolist() == [1, 6, 3]
    values, vectors = np.array([0.0, 1.0]), np.array([[1.0, 1, 1], [3, 0, -1]])
    exact = graph.errors(methods.Pairs(values, vectors))
    assert max(exact.values, exact.angle, exact.residual) < 1e-7
    # A value that is wrong by 0.1 leaves 0.1 · D^½ y.
    shifted = graph.errors(methods.Pairs(values + np.array([0, 0.1]), 5 * vectors))
    assert shifted.values == pytest.approx(0.1)
    assert shifted.residual == pytest.approx(0.1)
    symmetric = methods.Pairs(None, vectors * np.sqrt(graph.degrees))
    assert max(vars(graph.errors(symmetric, "D^½ y")).values()) == pytest.approx(1e-3)  # the bound


def test_diagonal_can_be_left_out() -> None:
    graph = graphs.ExactGraph(MATRIX, scipy.sparse.csr_array((3, 3)), MATRIX.diagonal(), 2)
    assert graph.degrees.tolist() == [1, 4, 3]
    assert graph.product(np.eye(3)).tolist() == [[0, 1, 0], [1, 0, 3], [0, 3, 0]]


def test_exact_pairs_by_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problems.tiny()
    found = []
    for largest in (4096, 0):
        monkeypatch.setattr(graphs, "LARGEST_DENSE", largest)
        found.append(graphs.ExactGraphs(problem, graphs.exact_gram(problem), 5, 10.0)["deepspec"].exact)
    (dense, vectors), (iterated, others) = found
    assert iterated == pytest.approx(dense, abs=1e-12)
    assert graphs.angle(vectors[:, :5], others[:, :5]) < 1e-6


def test_memory_bound() -> None:
    problem = problems.Problem(np.zeros((5, 20, 16), np.float32), np.zeros((10, 40, 3), np.uint8))
    colors = scipy.sparse.csr_array(np.eye(400))
    bound = eigenpairs.memory_bound(problem, {"deepspec": exact_graph_of(colors)})
    assert bound == 224_000 + (400 * 12 + 401 * 8) + 4 * 192 * 16 + 8_000_000


def exact_graph_of(colors: scipy.sparse.csr_array) -> Any:
    return graphs.ExactGraph(np.zeros(colors.shape), colors, 0.0, 2)


# The problems


@pytest.mark.parametrize("kind", problems.FEATURES)
@pytest.mark.parametrize("channels", [24, 600])
def test_problems(kind: str, channels: int, request: pytest.FixtureRequest) -> None:
    need_data(kind, request)
    problem = problems.make(kind, GRID, channels)
    assert problem.features.shape == (*GRID, channels)
    assert problem.features.dtype == np.float32
    assert problem.image.shape == (*GRID, 3)
    assert problem.image.std() > 10
    assert np.linalg.norm(problem.rows(), axis=1) == pytest.approx(1, abs=1e-5)
    assert np.linalg.matrix_rank(problem.rows()) > 10


def need_data(kind: str, request: pytest.FixtureRequest) -> None:
    """Skips where the features need the test data and there are none."""
    if kind == "surrogate":
        pytest.importorskip("skimage")
    else:
        request.getfixturevalue("test_data")


def test_a_larger_number_of_channels_keeps_all_inner_products() -> None:
    features = np.random.default_rng(0).normal(size=(3, 4, 5))
    wider = problems.with_channels(features, 8)
    assert np.tensordot(wider, wider, (2, 2)) == pytest.approx(np.tensordot(features, features, (2, 2)))


def test_upsampled_features_are_those_of_the_package() -> None:
    features = np.random.default_rng(0).normal(size=(6, 7, 5)).astype(np.float32)
    problem = problems.Problem(features, np.zeros((12, 14, 3), np.uint8))
    expected = oracle.upsampling((6, 7), (12, 14)) @ oracle.normalized_rows(features).reshape(42, 5)
    assert problem.exact_rows() == pytest.approx(expected)
    assert problem.rows() == pytest.approx(expected, abs=1e-6)


def test_odd_grid_has_no_half() -> None:
    with pytest.raises(ValueError, match=r"even sides, got \(5, 4\)"):
        problems.make("surrogate", (5, 4), 8, "half")


def test_peers_start_from_the_graph_of_the_package() -> None:
    pytest.importorskip("pymatting")
    rng = np.random.default_rng(0)  # float colours: no two distances are equal
    image = rng.random((9, 11, 3)) * 255
    graph = affinities.pymatting_knn(image)
    assert (graph != deepspec.color_affinity(image / 255)).nnz == 0


# The methods


@pytest.fixture(scope="module", params=[("own", 10.0), ("half", 10.0), ("own", 0.0)], ids=str)
def problem(request: pytest.FixtureRequest) -> tuple[problems.Problem, float, graphs.ExactGraphs]:
    """Smooth features with noise, and exact pairs."""
    pytest.importorskip("pymatting")
    source, color_weight = request.param
    divisor = 2 if source == "half" else 1
    shape = (24 // divisor, 20 // divisor)
    rng = np.random.default_rng(3)
    features = problems.interpolate(rng.normal(size=(4, 5, 32)), shape) + 0.3 * rng.normal(size=(*shape, 32))
    image = problems.interpolate(255 * rng.random((4, 5, 3)), (24, 20)) + rng.normal(size=(24, 20, 3))
    made = problems.Problem(features.astype(np.float32), image.clip(0, 255).astype(np.uint8))
    return made, color_weight, graphs.ExactGraphs(made, graphs.exact_gram(made), 5, color_weight)


@pytest.mark.parametrize("name", methods.METHODS)
def test_methods_find_the_exact_pairs(
    name: str, problem: tuple[problems.Problem, float, graphs.ExactGraphs]
) -> None:
    method = methods.METHODS[name]
    if reason := method.missing():
        pytest.skip(reason)
    made, color_weight, exact = problem
    with measures.limit_threads(1):
        found = method.solve(made, 5, color_weight, 1)
    assert found.vectors.shape == (5, made.n)
    errors = exact[method.graph].errors(found, method.vectors)
    # bfloat16's errors lose weight beside the degrees as graphs grow: 2e-4 from a thousand cells on.
    allowed = {"deepspec-fast": 1e-3, "ncut-pytorch": 2e-2}.get(name, 2e-5)
    assert errors.residual < allowed
    assert errors.values < allowed
    assert errors.angle < errors.angle_bound


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    method = methods.Method(methods.tuned, needs=("no_such_package", "numpy"))
    assert method.missing() == "not installed: no_such_package (pip install deepspec[bench])"


def test_failures_are_told_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")

    def fail(*_: object) -> methods.Pairs:
        raise RuntimeError("no convergence")

    monkeypatch.setitem(methods.METHODS, "tuned", methods.Method(fail, needs=()))
    run_eigenpairs("--sizes", "12x14", "--methods", "tuned", "deepspec")
    printed = capsys.readouterr().out
    assert "| tuned | 168 | RuntimeError: no convergence |" in printed
    assert "| deepspec | 1 | 2 |" in printed


# The commands


def run_eigenpairs(*arguments: str) -> None:
    common = ["--features", "surrogate", "--channels", "16", "--runs", "2", "--threads", "1", "--no-memory"]
    eigenpairs.main([*common, *arguments])


def test_eigenpairs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pymatting")
    pytest.importorskip("skimage")
    limited = dataclasses.replace(methods.METHODS["published"], largest=200, limit="too long")
    monkeypatch.setitem(methods.METHODS, "published", limited)
    file = tmp_path / "results.json"
    run_eigenpairs(
        *("--sizes", "12x14", "16x18", "--methods", "deepspec", "published", "tuned"),
        *("--source", "own", "half", "--k", "5", "3", "--json", str(file)),
    )
    printed = capsys.readouterr().out
    found = results.Results.load(file)
    assert report.render(found) == printed.rstrip("\n")
    # Three problems at two sizes; the published route only at the smaller.
    assert len(found.rows) == 3 * (2 * 2 + 1)
    assert len({row.setting for row in found.rows}) == 6
    assert all(len(row.seconds) == 2 and row.memory is None for row in found.rows)
    assert all(row.errors.residual < 2e-5 and row.errors.angle < 1e-3 for row in found.rows)
    for line in (
        "C = 16, k = 5, λ = 10, 1 thread:",
        "| 288 from 8 × 9 |",
        "n = 168 from half the grid, C = 16, k = 5, λ = 10, surrogate features:",
        "| published | 288 | above n = 200: too long |",
    ):
        assert line in printed


def test_memory_is_measured_and_within_the_bound(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    file = tmp_path / "results.json"
    run_eigenpairs("--sizes", "32x32", "--methods", "deepspec", "--memory", "--json", str(file))
    for row in results.Results.load(file).rows:
        if row.memory is None:
            pytest.skip("this system does not tell the peak memory of a process")
        assert row.memory_bound is not None
        assert 0 < row.memory <= row.memory_bound


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sizes", "12"], "HxW, got '12'"),
        (["--sizes", "axb"], "HxW, got 'axb'"),
        (["--methods", "best"], "'best'"),
        (["--runs", "0"], "at least 1, got '0'"),
        (["--sizes", "2x2"], "k = 5 pairs need more cells than there are in 2x2"),
        (["--sizes", "12x12", "12x13"], "even sides, not 12x13"),
        (["--json", "nowhere/results.json"], "no folder for nowhere"),
    ],
)
def test_wrong_options_are_refused_before_any_work(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_eigenpairs(*options)
    assert message in capsys.readouterr().err


def measured(*, exponent: float = 1.5) -> results.Results:
    """deepspec takes n^exponent, on two threads half of it; the tuned way three times as long in all rounds but one."""
    found = results.Results({"cores": 2})
    for side in (64, 128):
        setting = results.Setting(side * side, (side, side), "surrogate", "own", 384, 5, 10.0)
        for threads in (1, 2):
            seconds = side ** (2 * exponent) / 1e6 / threads
            errors = graphs.Errors(1e-7, 1e-4, 1e-3, 1e-6)
            row = results.Row(setting, "deepspec", threads, [0, 1, 2], [seconds] * 3, errors, 0.0, None, None)
            peer = [3 * seconds, 9 * seconds, 3 * seconds]
            found.rows.append(row)
            found.rows.append(dataclasses.replace(row, method="tuned", seconds=peer))
        found.left_out.append(results.LeftOut(setting, "torch-eigh", "minutes"))
    return found


def test_threads_get_a_panel_where_there_is_something_to_compare(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    both, two, more = measured(), measured(), measured()
    two.rows = [row for row in two.rows if row.threads == 2]
    more.rows = two.rows + [dataclasses.replace(row, threads=4) for row in two.rows]
    titles = []
    for found in (both, two, more):
        found.save(tmp_path / "results.json")
        report.main([str(tmp_path / "results.json"), "--plot", str(tmp_path / "figure.svg")])
        drawn = (tmp_path / "figure.svg").read_text()
        titles.append([title in drawn for title in ("<!-- time, ms -->", "<!-- one thread ÷")])
    assert titles == [[True, True], [True, False], [True, False]]


def test_tables_by_hand() -> None:
    printed = report.render(measured())
    assert printed.startswith("cores: 2\n")
    assert "| 4096 | 262.1 | 786.4 | 3.00 (3.00–9.00) |" in printed
    assert (
        "| deepspec | n^1.50 (4096 to 16384) | 4096: 2.00 (2.00–2.00), 16384: 2.00 (2.00–2.00) |" in printed
    )
    assert "| tuned | 2 | 3 | 393.2 | 3.00 (3.00–9.00) |" in printed
    assert "| torch-eigh | 4096, 16384 | minutes |" in printed


def test_ratio_uses_the_rounds_both_ran_in() -> None:
    row = measured().rows[0]
    slow = dataclasses.replace(row, rounds=[0, 2], seconds=[2 * row.seconds[0], 4 * row.seconds[2]])
    assert slow.ratio_to(row).median == pytest.approx(3)


@pytest.mark.parametrize("name", ["figure.png", "figure.svg"])
def test_report_draws_the_figure(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    file, picture = tmp_path / "results.json", tmp_path / name
    measured().save(file)
    report.main([str(file), "--tables", "speed", "--plot", str(picture)])
    printed = capsys.readouterr().out
    assert "| 4096 |" in printed
    assert "torch-eigh" not in printed
    if name.endswith("png"):
        with Image.open(picture) as image:
            assert np.asarray(image).std() > 10
    else:
        drawn = picture.read_text()
        assert "#c1272d" in drawn  # deepspec's line
        assert "#1f5fa8" in drawn


def test_neighbors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pymatting")
    pytest.importorskip("skimage")
    file = tmp_path / "neighbors.json"
    neighbors.main(["--grids", "16x18", "--features", "surrogate", "--runs", "2", "--json", str(file)])
    printed = capsys.readouterr().out
    rows = json.loads(file.read_text())["rows"]
    assert [row["method"] for row in rows if row["work"] == "graph"] == ["deepspec", *neighbors.SEARCHES]
    for row in rows:
        assert row["graph_difference"] < 0.1  # neighbours at equal distances
        assert f"| 288 | 1 | {row['method']} | {row['work']} |" in printed


@pytest.mark.parametrize("name", neighbors.SEARCHES)
def test_peers_find_the_same_neighbors(name: str) -> None:
    pytest.importorskip({"scikit-learn": "sklearn"}.get(name, name))
    rng = np.random.default_rng(0)  # float colours: no two distances are equal
    image = 255 * rng.random((9, 11, 3))
    found = neighbors.graph(neighbors.SEARCHES[name], image, 1)
    assert (found != deepspec.color_affinity(image / 255)).nnz == 0


def test_classical(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "black.png")
    classical.main([str(tmp_path), "--size", "48x32", "--runs", "2"])
    assert "1 images of 48 x 32 pixels: " in capsys.readouterr().out


def test_objects(test_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    objects.main(["--data", str(test_data), "--limit", "2"])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 + 6 * 4 + 3 * 2 + 2
    assert printed[-1].startswith("ECSSD even: 1 images, ECSSD odd: 1 images, off centre: ")
    rows = [line.split(" | ") for line in printed[2:-2]]
    whole, refined = (row[3:7] for row in rows if row[0] == "| whole")
    assert whole == refined
    for row in rows:
        assert all(0 <= float(cell) <= 1 for cell in row[3:7] if cell != "–")


def test_dinov2_is_drawn(test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "dinov2.png"
    dinov2.main(["--data", str(test_data / "dinov2_features"), "-o", str(picture), "--color-weight", "10"])
    assert str(picture) in capsys.readouterr().out
    with Image.open(picture) as image:
        assert np.asarray(image).std() > 10
