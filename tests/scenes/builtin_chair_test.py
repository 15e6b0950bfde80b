"""The built-in chairs: their parameters, that they are sound solids, hold together, stand, and fit the picture."""

import collections
import functools

import numpy as np
import pytest
import scipy.spatial

from dcign_tf.scenes.builtin_chair import PARAMETERS, Chair, Part, draw, mesh, parts, solids
from dcign_tf.scenes.render import Camera, Mesh, Shading, render_meshes

_SEEDS = range(40)


@functools.cache
def _chair(seed: int) -> Chair:
    return draw(np.random.default_rng(seed))


@functools.cache
def _parts(seed: int) -> list[Part]:
    return parts(_chair(seed))


def _welded(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles without the copies of vertices that make edges crisp, and what these leave flat."""
    points, index = np.unique(part.vertices.round(9), axis=0, return_inverse=True)
    triangles = index.reshape(-1)[part.triangles]
    a, b, c = triangles.T
    return points, triangles[(a != b) & (b != c) & (c != a)]


def _volume(part: Part) -> float:
    a, b, c = np.moveaxis(part.vertices[part.triangles], 1, 0)
    return float(np.einsum("ij,ij->", a, np.cross(b, c))) / 6


def test_there_are_many_parameters_and_draws_cover_their_ranges():
    assert len(PARAMETERS) >= 30
    assert sum(bool(p.choices) for p in PARAMETERS) >= 5
    chairs = [_chair(seed) for seed in range(3000)]
    for parameter in PARAMETERS:
        values = [getattr(chair, parameter.name) for chair in chairs]
        if parameter.choices:
            assert set(values) == set(parameter.choices), parameter.name
        elif parameter.whole:
            assert set(values) == set(range(int(parameter.low), int(parameter.high) + 1))
        else:
            span = parameter.high - parameter.low
            assert parameter.low <= min(values) <= parameter.low + 0.05 * span, parameter.name
            assert parameter.high - 0.05 * span <= max(values) <= parameter.high, parameter.name


def test_values_are_the_parameters_as_numbers():
    chair = _chair(5)
    values = dict(zip((p.name for p in PARAMETERS), chair.values, strict=True))
    assert chair.values.dtype == np.float32
    assert values["seat_width"] == np.float32(chair.seat_width)
    kinds = next(p for p in PARAMETERS if p.name == "kind").choices
    assert kinds[int(values["kind"])] == chair.kind


def test_a_draw_takes_one_random_number_for_each_parameter():
    rng, other = np.random.default_rng(3), np.random.default_rng(3)
    draw(rng)
    other.random(len(PARAMETERS))
    assert rng.random() == other.random()


def test_same_seed_same_bytes():
    one, other = (mesh(draw(np.random.default_rng(8))) for _ in range(2))
    for name in ("vertices", "albedo", "triangles", "normals"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    assert mesh(_chair(9)).vertices.tobytes() != one.vertices.tobytes()


@pytest.mark.parametrize("seed", _SEEDS)
def test_parts_are_closed_and_turned_outward(seed):
    for part in _parts(seed):
        assert np.isfinite(part.vertices).all()
        _, triangles = _welded(part)
        edges = np.concatenate([triangles[:, [i, (i + 1) % 3]] for i in range(3)])
        there = collections.Counter(map(tuple, edges.tolist()))
        assert set(there.values()) == {1}, part.name
        assert all((b, a) in there for a, b in there), part.name
        assert _volume(part) > 0, part.name


def _samples(part: Part, rng: np.random.Generator) -> np.ndarray:
    """Points all over a part, three to a square centimeter."""
    corners = part.vertices[part.triangles]
    a, b, c = np.moveaxis(corners, 1, 0)
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    which = rng.choice(len(areas), int(3 * areas.sum()) + 20, p=areas / areas.sum())
    u, v = rng.random((2, len(which), 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    return np.asarray(a[which] + u * (b - a)[which] + v * (c - a)[which])


@pytest.mark.parametrize("seed", range(16))
def test_parts_hold_together(seed):
    rng = np.random.default_rng(0)
    clouds = [_samples(part, rng) for part in _parts(seed)]
    trees = [scipy.spatial.cKDTree(cloud) for cloud in clouds]
    reached, to_visit = {0}, [0]
    while to_visit:
        at = to_visit.pop()
        for other in range(len(clouds)):
            if other not in reached:
                distance, _ = trees[at].query(clouds[other], distance_upper_bound=0.7)
                if np.isfinite(distance).any():
                    reached.add(other)
                    to_visit.append(other)
    loose = [part.name for i, part in enumerate(_parts(seed)) if i not in reached]
    assert not loose, (loose, _chair(seed))


@pytest.mark.parametrize("seed", _SEEDS)
def test_it_stands_on_the_ground(seed):
    feet = {"leg": 4, "runner": 2, "frame": 1, "pedestal": 1, "wheel": None, "glide": None}
    points = []
    for part in _parts(seed):
        lowest = part.vertices[:, 1].min()
        assert lowest > -1e-6, part.name
        if part.name in feet:
            assert lowest < 0.1, part.name
            points.append(part.vertices[part.vertices[:, 1] < lowest + 0.1][:, [0, 2]])
    count = sum(part.name in feet for part in _parts(seed))
    star = _chair(seed).star_points
    assert count in ((2 * star, star) if _chair(seed).base == "star" else (1, 2, 4))
    # It does not fall over: the middle of the seat is above what it stands on.
    hull = scipy.spatial.Delaunay(np.concatenate(points))
    assert hull.find_simplex([[0.0, 0.0]])[0] >= 0


@pytest.mark.parametrize("seed", _SEEDS)
def test_nothing_comes_up_through_the_seat(seed):
    chair, all_parts = _chair(seed), _parts(seed)
    shown = {"runner", "crossbar", "frame", "pedestal", "plate", "column", "star", "apron", "spine"}
    if chair.base != "legs" or chair.kind in ("windsor", "armchair", "shell"):
        shown.add("leg")
    seat = next(part for part in all_parts if part.name in ("seat", "shell"))
    below = [part for part in all_parts if part.name in shown]

    def from_above(bright: list[Part], dark: list[Part]) -> np.ndarray:
        solids_ = [*bright, *dark]
        firsts = np.cumsum([0, *(len(part.vertices) for part in solids_)])
        scene = Mesh(
            np.concatenate([part.vertices for part in solids_]),
            np.repeat(
                [1.0] * len(bright) + [0.5] * len(dark), [len(part.vertices) for part in solids_]
            ),
            np.concatenate([p.triangles + f for p, f in zip(solids_, firsts, strict=False)]),
        )
        flat = Shading(ambient=1.0, diffuse=0.0, specular=0.0)
        return render_meshes(
            [scene],
            np.zeros(1),
            np.full(1, -90.0),
            np.zeros(1),
            160,
            Camera(1.0),
            flat,
            1,
            (0, 40, 0),
            50.0,
        )[0, :, :, 0]

    inside = from_above([seat], []) == 255
    # The parts of the back that lean over the seat's rear are not what this looks for, nor its rim.
    inside[1:-1, 1:-1] &= (
        inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    )
    seen = from_above(below, [seat]) == 255
    assert inside.sum() > 500
    if chair.base in (
        "cantilever",
        "star",
    ):  # their frames go up behind the seat, and may lean over it
        seen[: 80 - int(chair.seat_depth / 2 * 1.6 * 0.7)] = False
    assert not (inside & seen).any()


def test_meshes_are_as_large_as_the_unit_sphere_about_their_middle():
    for seed in range(10):
        vertices = mesh(_chair(seed)).vertices
        assert np.linalg.norm(vertices, axis=1).max() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(vertices.min(axis=0), -vertices.max(axis=0), atol=1e-5)


def test_flat_sides_are_flat_and_round_ones_smooth():
    box = solids.sweep("box", 0.5, [[0, 0, 0], [0, 0, 9]], solids.rectangle(2, 3), (1, 0, 0))
    built = Mesh(box.vertices, np.full(len(box.vertices), 0.5), box.triangles)
    assert built.normals is not None
    np.testing.assert_allclose(np.abs(built.normals).max(axis=1), 1, atol=1e-6)
    rod = solids.tube("rod", 0.5, [[0, 0, 0], [0, 0, 9]], 1.0, 16)
    built = Mesh(rod.vertices, np.full(len(rod.vertices), 0.5), rod.triangles)
    assert built.normals is not None
    round_ = np.abs(built.normals[:, 2]) < 0.5
    outward = built.vertices[round_, :2]
    np.testing.assert_allclose(built.normals[round_, :2], outward, atol=0.1)
