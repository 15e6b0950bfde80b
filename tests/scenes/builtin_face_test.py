import itertools

import numpy as np
import pytest

from dcign_tf.scenes import builtin_face as package
from dcign_tf.scenes import load_source
from dcign_tf.scenes.builtin_face import builtin_face, mesh, shapes
from dcign_tf.scenes.builtin_face.traits import SHADE_TRAITS, SHAPE_TRAITS, Head
from dcign_tf.scenes.morphable import MorphableModel
from dcign_tf.scenes.render import render


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return builtin_face()


@pytest.fixture(scope="module")
def head() -> Head:
    return Head()


def _normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (points[triangles[:, k]].astype(np.float64) for k in range(3))
    return np.cross(b - a, c - a)


def test_it_has_many_traits_with_names_of_their_own(model: MorphableModel) -> None:
    assert len(set(model.mode_names)) == len(model.mode_names) == model.coefficients >= 40
    assert model.shape_mode_names == tuple(trait.name for trait in SHAPE_TRAITS)
    assert model.albedo_mode_names == tuple(trait.name for trait in SHADE_TRAITS)


def test_the_documentation_lists_the_traits_as_they_are() -> None:
    assert package.__doc__ is not None
    documented = [
        tuple(line.split(maxsplit=1))
        for line in package.__doc__.split("(* is one-sided):")[1].splitlines()
        if line.strip()
    ]
    traits = SHAPE_TRAITS + SHADE_TRAITS
    assert documented == [(t.name + "*" * t.one_sided, t.effect) for t in traits]


def test_it_is_the_registered_source() -> None:
    assert load_source("builtin_face").name == "builtin_face"


def test_the_same_bytes_are_made_twice(model: MorphableModel) -> None:
    again = builtin_face.__wrapped__()
    assert again is not model
    for field in ("mean_shape", "shape_modes", "mean_albedo", "albedo_modes", "triangles"):
        assert getattr(again, field).tobytes() == getattr(model, field).tobytes()


def test_the_mean_is_symmetric(model: MorphableModel) -> None:
    vertices = np.column_stack([model.mean_shape, model.mean_albedo]).astype(np.float64).round(4)
    vertices += 0.0  # no -0
    mirrored = vertices * [-1.0, 1.0, 1.0, 1.0] + 0.0
    for table in (vertices, mirrored):
        table[:] = table[np.lexsort(table.T)]
    np.testing.assert_array_equal(vertices, mirrored)


def test_every_mode_changes_something(model: MorphableModel) -> None:
    moved = np.linalg.norm(model.shape_modes, axis=2).max(axis=1)
    assert (moved > 0.03).all() and (moved < 5.0).all()  # centimetres
    assert (np.abs(model.albedo_modes).max(axis=1) > 0.01).all()


def test_modes_add_up_to_about_the_function_they_are_differences_of(
    model: MorphableModel, head: Head
) -> None:
    for coefficients in model.draw(np.random.default_rng(2), 3):
        values = dict(zip(model.mode_names, coefficients.astype(float), strict=True))
        exact = head.vertices({t.name: values[t.name] for t in SHAPE_TRAITS})
        away = np.linalg.norm(model.vertices(coefficients[None])[0] - exact, axis=1)
        assert away.mean() < 0.05 and away.max() < 0.6


def test_draws_have_albedos_that_are_reflectances(model: MorphableModel) -> None:
    albedo = model.albedo(model.draw(np.random.default_rng(0), 200))
    assert albedo.min() >= 0.0 and albedo.max() <= 1.0
    # And clipping is for a few dark spots only: clipped modes would be no modes.
    assert ((albedo == 0.0) | (albedo == 1.0)).mean() < 0.02
    assert 0.0 < model.mean_albedo.min() + 1e-6 and model.mean_albedo.max() < 1.0


def test_triangles_are_wound_the_same_way_and_outward(head: Head) -> None:
    triangles = head.mesh.triangles
    edges = np.concatenate([triangles[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    assert len(np.unique(edges, axis=0)) == len(edges)  # no edge is walked twice in one direction
    normals = _normals(head.mesh.points, triangles)
    assert (np.linalg.norm(normals, axis=1) > 1e-4).all()
    part = head.mesh.part[triangles[:, 0]]
    centers = head.mesh.points[triangles].mean(axis=1)
    for which in (mesh.SKIN, mesh.EYES, mesh.EARS, mesh.HAIR):
        for side in (centers[:, 0] > 0, centers[:, 0] < 0):
            of = (part == which) & side
            inside = centers[of].mean(axis=0)
            if which == mesh.EARS:
                inside[0] *= 0.8
            assert ((centers[of] - inside) * normals[of]).sum() > 0


def test_draws_turn_no_triangle_around(model: MorphableModel) -> None:
    before = _normals(model.mean_shape, model.triangles)
    area = np.linalg.norm(before, axis=1)
    for vertices in model.vertices(model.draw(np.random.default_rng(0), 20)):
        after = _normals(vertices, model.triangles)
        turned = (before * after).sum(axis=1) <= 0
        # A handful of tiny ones may, in the folds beside the eyes.
        assert turned.sum() <= 8 and area[turned].sum() < 5e-5 * area.sum()


def test_the_mean_has_the_proportions_of_a_head(head: Head) -> None:
    points, part = head.mesh.points, head.mesh.part
    skin = points[part == mesh.SKIN]
    face = skin[(np.abs(skin[:, 0]) < 1.0) & (skin[:, 2] > 5.0)]
    chin = face[:, 1].min()
    top = skin[:, 1].max()
    assert 21 < top - chin < 25
    eyes = points[part == mesh.EYES][:, 1].mean()
    assert abs(eyes - (top + chin) / 2) < 1.0  # half-way
    nose = face[face[:, 2].argmax()]
    assert 0.2 < (eyes - nose[1]) / (eyes - chin) < 0.45
    upper = skin[(skin[:, 1] > -10.0)]
    assert 13.5 < np.ptp(upper[:, 0]) < 16.5
    assert 19.0 < np.ptp(upper[:, 2]) < 23.0  # with the nose


def test_traits_do_what_their_names_say(head: Head) -> None:
    part = head.mesh.part
    mean = head.vertices({})
    skin, eyes, ears, hair = (part == which for which in range(4))
    right = mean[:, 0] > 0

    def change(trait: str, of: np.ndarray, axis: int) -> float:
        return float((head.vertices({trait: 1.0}) - head.vertices({trait: -1.0}))[of, axis].mean())

    def region(x: float, y: float, z: float, radius: float = 0.8) -> np.ndarray:
        return skin & (np.linalg.norm(mean - [x, y, z], axis=1) < radius)

    tip, chin = region(0, -3.6, 11.3), region(0, -10.0, 9.2)
    assert tip.any() and chin.any()
    jaw = skin & right & (np.abs(mean[:, 1] + 8) < 0.5) & (mean[:, 0] > 4.0)
    assert change("jaw_width", jaw, 0) > 0.4
    assert change("nose_projection", tip, 2) > 0.3
    assert change("nose_length", tip, 1) < -0.3
    assert change("nose_tip_height", tip, 1) > 0.2
    assert change("nose_bend", tip, 0) > 0.1
    assert change("chin_length", chin, 1) < -0.3
    assert change("chin_prominence", chin, 2) > 0.3
    assert change("eye_spacing", eyes & right, 0) == pytest.approx(0.34, abs=0.01)
    assert change("eye_spacing", eyes & ~right, 0) == pytest.approx(-0.34, abs=0.01)
    assert change("eye_depth", eyes, 2) == pytest.approx(-0.4, abs=0.01)
    assert change("skull_height", hair & (mean[:, 1] > 10.0), 1) > 0.5
    assert change("ear_protrusion", ears & right, 0) > 0.1
    assert change("hair_length", hair & (mean[:, 1] < -6.0), 1) < -1.0
    assert change("hairline_height", hair & (mean[:, 2] > 8.0), 1) > 0.4
    assert change("mouth_width", region(2.5, -6.9, 8.2) & right, 0) > 0.2
    assert change("cheek_fullness", region(4.6, -5.0, 7.0, 1.5) & right, 0) > 0.2


def test_shades_do_what_their_names_say(model: MorphableModel, head: Head) -> None:
    shades = dict(zip(model.albedo_mode_names, model.albedo_modes, strict=True))
    part = head.mesh.part
    assert (shades["hair_fairness"][part == mesh.HAIR] > 0.05).all()
    assert shades["skin_tone"][part == mesh.EARS].min() > 0.1
    assert shades["beard_density"].min() < -0.1 and shades["beard_density"].max() <= 0.0
    changed = shades["iris_shade"] != 0
    assert (part[changed] == mesh.EYES).all()


def test_draws_are_different_people(model: MorphableModel) -> None:
    people = model.draw(np.random.default_rng(0), 8)
    zeros = np.zeros(8)
    images = render(model, people, zeros, zeros, zeros + 25.0, 70).astype(np.float64)
    for a, b in itertools.combinations(images, 2):
        assert np.abs(a - b).mean() > 8.0  # of 255


def test_the_face_fills_the_picture_and_profiles_stay_in_it(model: MorphableModel) -> None:
    people = np.concatenate(
        [np.zeros((1, model.coefficients), np.float32), model.draw(np.random.default_rng(1), 12)]
    )
    for azimuth in (-90.0, 0.0, 90.0):
        turned = np.full(len(people), azimuth)
        images = render(model, people, turned, 0 * turned, turned, 60)[..., 0]
        # In profile, the face's side of the picture shows background at its edge.
        if azimuth == 0.0:
            assert (images[:, :40, [0, -1]] == 0).all()
        else:
            edge = images[:, :50, -1 if azimuth > 0 else 0]
            assert (edge == 0).mean() > 0.99
    front = np.zeros(1)
    face = render(model, people[:1], front, front, front, 100)[0, :, :, 0]
    assert (face[:, 50] > 0).all()  # from hair to neck, the middle of the picture is full
    assert 50 < (face[50] > 0).sum() < 95


def test_eyes_show_between_the_lids(model: MorphableModel, head: Head) -> None:
    count = 10
    people = np.concatenate(
        [np.zeros((1, model.coefficients), np.float32), model.draw(np.random.default_rng(5), count)]
    )
    only_eyes = np.zeros_like(model.mean_albedo)
    only_eyes[head.mesh.part == mesh.EYES] = 1.0
    painted = MorphableModel(
        **{
            **{f: getattr(model, f) for f in model.__dataclass_fields__},
            "mean_albedo": only_eyes,
            "albedo_modes": np.zeros_like(model.albedo_modes),
        }
    )
    zeros = np.zeros(count + 1)
    images = render(painted, people, zeros, zeros, zeros, 150)[..., 0] > 60
    seen = images.sum(axis=(1, 2))
    # Two of some 3 cm by 1 cm, where a pixel is 1.4 mm wide.
    assert (seen > 100).all() and (seen < 900).all()


def test_curves_pass_their_points_and_never_overshoot() -> None:
    points = ((0.0, 1.0), (1.0, 3.0), (2.0, 3.0), (4.0, -1.0))
    xs, ys = np.array(points).T
    np.testing.assert_allclose(shapes.curve(points, xs), ys)
    fine = shapes.curve(points, np.linspace(-1.0, 5.0, 500))
    assert fine.min() >= -1.0 - 1e-9 and fine.max() <= 3.0 + 1e-9
    assert (shapes.curve(points, np.array([-9.0, 9.0])) == [1.0, -1.0]).all()


def test_waves_have_about_unit_variance() -> None:
    points = np.random.default_rng(0).uniform(-50, 50, (5000, 3))
    for seed in (3, 5, 11):
        field = shapes.waves(points, 2.0, seed)
        assert abs(field.mean()) < 0.1 and abs(field.std() - 1.0) < 0.1
