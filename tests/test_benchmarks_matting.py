"""The benchmark of the eigenpairs of all pixels measures what it says: its graphs, peers and comparisons are right."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import matting
import matting_agreement
import matting_report
import matting_speed
import numpy as np
import pixel_graphs
import pixel_methods
import pixel_problems
import pytest
import scipy.linalg
import scipy.sparse
from matting_speed import LeftOut, Row
from methods import Pairs
from pixel_graphs import Gram, Lift, PixelGraph, PixelProblem, Sampled
from pixel_methods import METHODS, Question
from problems import Array

from deepspec import Features

# Numba and PyMatting may warn of what they do to each other.
pytestmark = pytest.mark.filterwarnings("default")

COLOR_WEIGHT = 0.05  # small enough for the features to matter on a few hundred pixels
EXACTLY = Question(k=4, tol=1e-5, color_weight=COLOR_WEIGHT)


def problem_of(shape: tuple[int, int] = (18, 20), patches: tuple[int, int] = (3, 4)) -> PixelProblem:
    """Smooth random colours, and random features of either sign that leave no strip of the image uncovered."""
    generator = np.random.default_rng(1)
    colors = generator.random((6, 5, 3))
    image = np.kron(colors, np.ones((shape[0] // 6, shape[1] // 5, 1))) * 200
    image += generator.random(image.shape) * 50
    features = generator.normal(size=(*patches, 6)).astype(np.float32)
    cell = shape[0] / patches[0], shape[1] / patches[1]
    return PixelProblem(image.astype(np.uint8), Features(features, cell))


def positive_problem() -> PixelProblem:
    """Features without a negative product, on which the relu of interpolated and of patches' products are one."""
    problem = problem_of()
    return dataclasses.replace(problem, features=Features(abs(problem.features.array), problem.features.cell))


def dense_pairs(matrix: Array, k: int) -> Pairs:
    """LAPACK's, of (D − W) y = μ D y."""
    degrees = np.diag(matrix.sum(axis=1))
    values, vectors = scipy.linalg.eigh(degrees - matrix, degrees, subset_by_index=(0, k - 1))
    return Pairs(values, vectors.T)


def dense_of(graph: PixelGraph) -> Array:
    return graph.product(np.eye(graph.n))


def assert_same_pairs(found: Pairs, expected: Pairs, degrees: Array) -> None:
    assert found.values is not None
    assert found.values == pytest.approx(expected.values, abs=1e-5)
    a, b = (np.sqrt(degrees)[:, None] * pairs.vectors.T for pairs in (found, expected))
    assert matting_agreement.cosines(a, b)[-1] > 0.9999


# The graphs, against dense numpy and by hand


def test_lift_by_hand() -> None:
    # Centres of four pixels at 0.25, 0.75, 1.25, 1.75 cells, of two patches at 0.5 and 1.5.
    lift = Lift((4, 1), (2, 1), (2.0, 1.0))
    weights = np.array([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    assert lift.up(np.eye(2)) == pytest.approx(weights)
    assert lift.down(np.eye(4)) == pytest.approx(weights.T)
    # One patch, and pixels beyond the last patch, which keep its value.
    assert Lift((3, 1), (1, 1), (3.0, 1.0)).up(np.ones((1, 1))).ravel().tolist() == [1, 1, 1]
    assert Lift((4, 1), (2, 1), (1.0, 1.0)).up(np.array([[0.0], [1]])).ravel().tolist() == [0, 1, 1, 1]


def test_lift_goes_down_by_its_transpose() -> None:
    lift = Lift((9, 10), (3, 4), (3.0, 2.5))
    up = lift.up(np.eye(12))
    assert up.sum(axis=1) == pytest.approx(1)
    assert lift.down(np.eye(90)) == pytest.approx(up.T)
    ramp = lift.up(np.arange(12.0)[:, None]).reshape(9, 10)  # 4 · row + column
    assert ramp[4, 5] == pytest.approx(4 * 1 + (5.5 / 2.5 - 0.5))


@pytest.mark.parametrize("dense", [False, True])
def test_terms_against_dense_numpy(dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_graphs, "STRIP", 100)
    problem = problem_of()
    f = problem.features.array.reshape(12, 6).astype(float)
    f /= np.linalg.norm(f, axis=1, keepdims=True)
    up = Lift((18, 20), (3, 4), (6.0, 5.0)).up(np.eye(12))
    finer = Lift((12, 16), (3, 4), (4.0, 4.0)).up(np.eye(12)) @ f
    up4 = Lift((18, 20), (12, 16), (1.5, 1.25)).up(np.eye(192))

    def relu(rows: Array) -> Array:
        product = np.maximum(rows @ rows.T, 0)
        return product / product.max() / 256

    expected = {
        "exact": relu(up @ f),
        "patch": up @ relu(f) @ up.T,
        "patch4": up4 @ relu(finer) @ up4.T,
    }
    for name, matrix in expected.items():
        found = pixel_graphs.TERMS[name](problem, dense).product(np.eye(360))
        assert found == pytest.approx(matrix, abs=1e-6 / 256)
    # The finer the patches are, the nearer the exact affinity is.
    far, near = (abs(expected[name] - expected["exact"]).sum() for name in ("patch", "patch4"))
    assert near < far / 2


def test_all_pairs_sampled_are_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_graphs, "STRIP", 7)
    rows = np.random.default_rng(2).normal(size=(20, 3))
    assert Sampled(rows, 1.0).matrix.toarray() == pytest.approx(np.maximum(rows @ rows.T, 0), abs=1e-5)


def test_sampled_pairs_are_a_symmetric_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_graphs, "STRIP", 64)
    rows = 1 + np.random.default_rng(3).random((300, 3))
    matrix = Sampled(rows, 1 / 16).matrix
    full = (rows @ rows.T).astype(np.float32)
    assert (matrix != matrix.T).nnz == 0
    assert matrix.data == pytest.approx(full[matrix.nonzero()], rel=1e-5)
    # 45 150 pairs with the chance 1/16: 2822 ± 51; in all quarters alike.
    drawn = scipy.sparse.triu(matrix).tocoo()
    assert abs(drawn.nnz - 2822) < 5 * 51
    left = np.count_nonzero((drawn.coords[0] < 150) & (drawn.coords[1] < 150))
    assert abs(left - 11325 / 16) < 5 * np.sqrt(11325 / 16)
    # The same with the same seed, others with another.
    assert (Sampled(rows, 1 / 16).matrix != matrix).nnz == 0
    assert (Sampled(rows, 1 / 16, seed=1).matrix != matrix).nnz > 2000


def test_residuals_by_hand() -> None:
    # (D − W) y = μ D y of the path with a loop: μ = 0 for 1, and μ = 1 for (3, 0, −1).
    matrix = np.array([[0.0, 1, 0], [1, 2, 3], [0, 3, 0]])
    graph = PixelGraph(Gram(np.zeros((3, 1)) + 1e-9, 1e-12), scipy.sparse.csr_array(matrix))
    values, vectors = np.array([0.0, 1.0]), np.array([[1.0, 1, 1], [3, 0, -1]])
    assert graph.residuals(vectors, values) == pytest.approx([0, 0], abs=1e-9)
    assert graph.residuals(vectors) == pytest.approx([0, 0], abs=1e-9)
    # A value that is wrong by 0.1 leaves 0.1 · D^½ y, of any length.
    assert graph.residuals(5 * vectors, np.array([0, 1.1])) == pytest.approx([0, 0.1], abs=1e-9)


# The methods, against LAPACK and one another


@pytest.mark.parametrize("name", ["scipy", "scipy-40", "literal", "literal-40"])
def test_peers_find_the_pairs_of_their_graphs(name: str) -> None:
    pytest.importorskip("pymatting")
    graph = METHODS[name].graph
    assert graph is not None
    built = graph(problem_of(), COLOR_WEIGHT)
    found = METHODS[name].solve(problem_of(), EXACTLY)
    assert_same_pairs(found, dense_pairs(dense_of(built), 4), built.degrees)
    residual = matting_speed.residual(name, problem_of(), EXACTLY, found)
    assert residual is not None
    assert residual < 3e-5


def test_peers_are_one_where_all_pairs_are_drawn_and_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pymatting")
    monkeypatch.setattr(pixel_graphs, "SHARE", 1.0)
    problem, question = positive_problem(), dataclasses.replace(EXACTLY, color_weight=10.0)
    rows = pixel_graphs.pixel_rows(problem)
    matrix = np.maximum(rows @ rows.T, 0) + 10 * pixel_methods.pymatting_knn(problem.image).toarray()
    expected = dense_pairs(matrix, 4)
    for name in ("scipy", "literal"):
        assert_same_pairs(METHODS[name].solve(problem, question), expected, matrix.sum(axis=1))


@pytest.mark.parametrize("name", ["patch", "patch4"])
def test_deepspec_decomposes_the_graph_numpy_builds(name: str) -> None:
    problem = problem_of()
    found = METHODS[name].solve(problem, EXACTLY)
    graph = METHODS[name].graph
    assert graph is not None
    built = graph(problem, COLOR_WEIGHT)
    assert_same_pairs(found, dense_pairs(dense_of(built), 4), built.degrees)
    # And not another's.
    other = METHODS["patch4" if name == "patch" else "patch"].graph
    assert other is not None
    assert other(problem, COLOR_WEIGHT).residuals(found.vectors, found.values).max() > 1e-3


# The agreement


def test_the_exact_form_agrees_with_the_exact_pairs() -> None:
    problem, question = problem_of(), Question(k=4, tol=1e-6, color_weight=COLOR_WEIGHT)
    colors = pixel_methods.deepspec_colors(problem, COLOR_WEIGHT)
    exact = matting_agreement.Exact(problem, question, colors)
    term = pixel_graphs.exact_term(problem, True)
    one = exact.compare("", "", "exact", term, matting_agreement.by_scipy, False)
    assert one.degree_ratio == pytest.approx(1)
    assert min(one.first, *one.cosines) > 0.99999
    assert len(one.cosines) == 3
    assert max(one.residual, one.exact_residual) < 1e-5
    assert one.values == pytest.approx(one.exact_values[:4], abs=1e-5)
    # Three times the features is another graph, until the degrees are matched.
    tripled = Gram(pixel_graphs.pixel_rows(problem), 3 * pixel_graphs.SHARE, True)
    off, matched = (
        exact.compare("", "", "tripled", tripled, matting_agreement.by_scipy, match)
        for match in (False, True)
    )
    assert off.degree_ratio == pytest.approx(1 / 3)
    assert off.first < 0.999
    assert min(matched.first, *matched.cosines) > 0.99999


def test_cosines_by_hand() -> None:
    x, y, z = np.eye(3)
    turned = 0.6 * y + 0.8 * z
    assert matting_agreement.cosines(np.column_stack([x, y]), np.column_stack([turned, x])) == pytest.approx(
        [1, 0.6]
    )


def test_features_must_cover_the_image() -> None:
    problem = problem_of()
    smaller = dataclasses.replace(problem, features=Features(problem.features.array, (5, 5)))
    with pytest.raises(ValueError, match=r"must cover the image, \(18, 20\)"):
        matting_agreement.Exact(smaller, EXACTLY, scipy.sparse.csr_array((360, 360)))


# The photographs


def test_enlarged_photographs_have_grain() -> None:
    photo = np.full((40, 40, 3), 100, np.uint8)
    assert (pixel_problems.resized(photo, 20) == 100).all()
    assert pixel_problems.resized(photo, 40) is photo
    larger = pixel_problems.resized(photo, 80)
    assert larger.mean() == pytest.approx(100, abs=0.1)
    assert larger.std() == pytest.approx(2, abs=0.1)


def test_windows_keep_tokens_and_pixels_together(test_data: Path) -> None:
    found = dict(pixel_problems.several("dinov2", 38))
    assert len(found) == 6
    window = found["window 0,18,19"]
    assert window.features.array.shape == (19, 19, 384)
    assert window.features.cell == (2, 2)
    pixels, tokens = pixel_problems.dinov2_features()
    assert (window.features.array == tokens[:19, 18:]).all()
    corner = pixels[:140, -140:].mean(axis=(0, 1))
    assert window.image[:20, -20:].mean(axis=(0, 1)) == pytest.approx(corner, abs=3)


# The commands


def test_speed_measures_all_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pymatting")
    pytest.importorskip("matplotlib")
    results, plot = tmp_path / "speed.json", tmp_path / "speed.png"
    arguments = "speed --features surrogate --sides 40 --runs 2 --threads 1 --methods patch scipy literal"
    matting.main([*arguments.split(), "--once", "48", "--json", str(results), "--plot", str(plot)])
    written = json.loads(results.read_text())
    assert written["settings"] == {"k": 5, "tol": 1e-3, "color_weight": 10.0}
    rows = written["rows"]
    assert [(row["side"], row["method"], row["once"]) for row in rows] == [
        *((40, name, False) for name in ("patch", "scipy", "literal")),
        *((48, name, True) for name in ("patch", "scipy", "literal")),
    ]
    assert all(len(row["seconds"]) == (1 if row["once"] else 2) for row in rows)
    assert all(row["residual"] <= 1e-3 for row in rows)
    assert all(len(row["values"]) == 5 for row in rows)
    printed = capsys.readouterr().out
    assert "| 40² | literal | 1 | 2 |" in printed
    assert "| 48² | patch | 1 | once |" in printed
    assert plot.stat().st_size > 5000


def test_agreement_compares_all_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "agreement.json"
    arguments = "agreement --oracle --features surrogate --side 40 --forms patch sampled --threads 1 --json"
    matting.main([*arguments.split(), str(results)])
    written = json.loads(results.read_text())
    assert written["settings"]["tol"] == 1e-5
    found = written["agreements"]
    assert [(one["form"], one["matched"]) for one in found] == [
        ("patch", False),
        ("patch", True),
        ("sampled", False),
        ("sampled", True),
    ]
    for one in found:
        assert len(one["cosines"]) == 4
        assert min(one["first"], *one["cosines"]) > 0.9
        assert max(one["residual"], one["exact_residual"]) < 1e-4
    assert "least cosine" in capsys.readouterr().out


def test_single_runs_end_at_the_limit() -> None:
    found = matting_speed.single_run("surrogate", 40, "patch", Question(), 0.01)
    assert found == LeftOut("surrogate", 40, "patch", "took more than 0.01 s")


def test_large_images_are_left_to_single_runs() -> None:
    assert "runs only once" in matting_speed.reason_against("literal", 512)
    assert matting_speed.reason_against("patch", 2048) == ""


def test_growth_is_between_sizes_and_in_all() -> None:
    rows = [
        Row("", side, "patch", 1, False, [0], [seconds], None, None, [0.0])
        for side, seconds in ((512, 1.0), (1024, 4.0), (2048, 8.0))
    ]
    assert (
        matting_report.exponents(rows)
        == "n^1.00 (512² to 1024²), n^0.50 (1024² to 2048²), n^0.75 (512² to 2048²)"
    )
