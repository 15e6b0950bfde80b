"""The renderer: against ray casting by embree, the facts of its geometry, and its promise of equal bytes."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import multiprocessing
import os
import pathlib

import numpy as np
import pytest
from embreex import mesh_construction, rtcore_scene

from dcign_tf import scenes
from dcign_tf.scenes.morphable import MorphableModel
from dcign_tf.scenes.render import (
    Camera,
    Mesh,
    Shading,
    Take,
    light_direction,
    render,
    render_meshes,
    rotation,
    smooth_normals,
)

_SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared/data/ict_facekit"
ICT = pathlib.Path(os.environ.get("DCIGN_ICT_PATH", _SHARED)) / "ict_facekit_light.npz"
PLAIN = Shading(ambient=1.0, diffuse=0.0, specular=0.0)  # an image of albedo alone


def mesh_model(vertices, triangles, albedo=1.0, radius=1.0) -> MorphableModel:
    """A model of one mesh, with a mode that moves it along x and one that darkens it."""
    vertices = np.asarray(vertices, np.float32)
    return MorphableModel(
        mean_shape=vertices,
        shape_modes=np.broadcast_to([0.1, 0, 0], (1, *vertices.shape)),
        mean_albedo=np.broadcast_to(np.asarray(albedo, np.float32), len(vertices)),
        albedo_modes=np.full((1, len(vertices)), -0.1, np.float32),
        triangles=np.asarray(triangles, np.int32).reshape(-1, 3),
        shape_mode_names=("right",),
        albedo_mode_names=("dark",),
        one_sided=np.zeros(2, bool),
        center=np.zeros(3, np.float32),
        radius=radius,
        name="mesh",
        source="made in a test",
    )


def ball(rows=24, columns=32, radius=0.8, bumps=0.0) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of a sphere, with bumps that make it concave in places."""
    theta, phi = np.meshgrid(
        np.linspace(0, np.pi, rows + 1), np.arange(columns) * 2 * np.pi / columns, indexing="ij"
    )
    r = radius * (1 + bumps * np.sin(5 * theta) * np.cos(4 * phi))
    vertices = np.stack(
        [
            r * np.sin(theta) * np.sin(phi),
            r * np.cos(theta),
            r * np.sin(theta) * np.cos(phi),
        ],
        axis=-1,
    ).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    triangles = np.stack([a, c, b, b, c, d], axis=-1).reshape(-1, 3)
    return vertices, triangles


def square(x=0.0, y=0.0, z=0.0, half=0.25) -> tuple[np.ndarray, np.ndarray]:
    corners = [(-half, -half), (half, -half), (half, half), (-half, half)]
    return np.array([(x + u, y + v, z) for u, v in corners]), np.array([(0, 1, 2), (0, 2, 3)])


def together(*meshes) -> tuple[np.ndarray, np.ndarray]:
    """One mesh of several."""
    vertices, triangles, count = [], [], 0
    for some_vertices, some_triangles in meshes:
        vertices.append(some_vertices)
        triangles.append(np.asarray(some_triangles) + count)
        count += len(some_vertices)
    return np.concatenate(vertices), np.concatenate(triangles)


def picture(model, azimuth=0.0, elevation=0.0, light=0.0, size=64, coefficients=None, **options):
    """One image as float64 [size, size] in [0, 1]."""
    if coefficients is None:
        coefficients = np.zeros((1, model.coefficients), np.float32)
    angles = np.array([[azimuth], [elevation], [light]], float)
    return render_all(model, coefficients, angles, size, **options)[0, :, :, 0] / 255.0


def render_all(model, coefficients, angles, size, **options):
    """`render` for angles [3, N]."""
    azimuth, elevation, light = angles
    return render(model, coefficients, azimuth, elevation, light, size, **options)


def middle(image):
    """Center of mass: (x to the right, y up) in pixels from the picture's center."""
    y, x = np.mgrid[: len(image), : len(image)] - (len(image) - 1) / 2
    return (x * image).sum() / image.sum(), -(y * image).sum() / image.sum()


# --- An independent renderer ---------------------------------------------------------------------


def cast(model, coefficients, azimuth, elevation, light_azimuth, size, rays=4):
    """Casts rays x rays rays per pixel with embree; shading and coverage, float64 [size, size].

    Written from the definitions alone: none of the renderer's code is used.
    """
    camera, shading = Camera(), Shading()
    weights = coefficients.astype(np.float64)
    k = len(model.shape_modes)
    vertices = model.mean_shape + np.tensordot(weights[:k], model.shape_modes, 1)
    albedo = np.clip(model.mean_albedo + np.tensordot(weights[k:], model.albedo_modes, 1), 0, 1)
    triangles = model.triangles

    a, e, light = np.radians([azimuth, elevation, light_azimuth])
    x, y, z = (vertices - model.center).T
    x, z = x * np.cos(a) + z * np.sin(a), z * np.cos(a) - x * np.sin(a)
    y, z = y * np.cos(e) + z * np.sin(e), z * np.cos(e) - y * np.sin(e)
    vertices = np.stack([x, y, z], axis=1)
    corners = vertices[triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], faces)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)

    tangent = np.tan(np.radians(camera.field_of_view) / 2)
    distance = model.radius / tangent
    fine = size * rays
    across = (2 * (np.arange(fine) + 0.5) / fine - 1) * tangent
    u, v = np.meshgrid(across, -across)
    directions = np.stack([u, v, np.full_like(u, -1)], axis=-1).reshape(-1, 3)
    origins = np.broadcast_to([0, 0, distance], directions.shape)
    scene = rtcore_scene.EmbreeScene()
    mesh_construction.TriangleMesh(scene, corners.astype(np.float32))
    hits = scene.run(
        np.ascontiguousarray(origins, np.float32), directions.astype(np.float32), output=True
    )
    found = np.flatnonzero(hits["primID"] >= 0)
    which, u, v = hits["primID"][found], hits["u"][found], hits["v"][found]
    shares = np.stack([1 - u - v, u, v], axis=1).astype(np.float64)
    normal = np.einsum("nc,ncd->nd", shares, normals[triangles[which]])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    # Seen from behind, a surface is lit from behind.
    behind = np.einsum("nd,nd->n", faces[which], directions[found]) > 0
    normal[behind] *= -1
    reflectance = np.einsum("nc,nc->n", shares, albedo[triangles[which]])

    b = np.radians(shading.light_elevation)
    to_light = np.array([np.sin(light) * np.cos(b), np.sin(b), np.cos(light) * np.cos(b)])
    half = to_light + np.array([0, 0, 1])
    half /= np.linalg.norm(half)
    lit = np.maximum(normal @ to_light, 0)
    gleam = np.where(lit > 0, np.maximum(normal @ half, 0) ** shading.shininess, 0)
    shades = reflectance * (shading.ambient + shading.diffuse * lit) + shading.specular * gleam

    image, covered = np.zeros(fine * fine), np.zeros(fine * fine)
    image[found], covered[found] = np.minimum(shades, 1), 1
    return tuple(
        samples.reshape(size, rays, size, rays).mean(axis=(1, 3)) for samples in (image, covered)
    )


def compare(model, scenes_count=20, size=100, rays=4):
    """The worst intersection over union of silhouettes, the worst mean difference inside."""
    rng = np.random.default_rng(3)
    coefficients = model.draw(rng, scenes_count)
    azimuth = rng.uniform(-90, 90, scenes_count)
    elevation = rng.uniform(-25, 25, scenes_count)
    light = rng.uniform(-80, 80, scenes_count)
    images = render(model, coefficients, azimuth, elevation, light, size)[..., 0] / 255.0
    white = dataclasses.replace(
        model,
        mean_albedo=np.ones_like(model.mean_albedo),
        albedo_modes=np.zeros_like(model.albedo_modes),
    )
    masks = render(white, coefficients, azimuth, elevation, light, size, shading=PLAIN)[..., 0]
    worst_overlap, worst_difference = 1.0, 0.0
    for row in range(scenes_count):
        expected, covered = cast(
            model, coefficients[row], azimuth[row], elevation[row], light[row], size, rays
        )
        ours, theirs = masks[row] >= 128, covered >= 0.5
        both = ours & theirs
        assert 0.1 < both.mean() < 0.95
        worst_overlap = min(worst_overlap, both.sum() / (ours | theirs).sum())
        difference = np.abs(images[row] - expected)[both].mean()
        worst_difference = max(worst_difference, difference)
    return worst_overlap, worst_difference


def test_agrees_with_ray_casting_on_the_built_in_face():
    overlap, difference = compare(scenes.load_source("builtin_face"))
    assert overlap >= 0.99
    assert difference <= 0.02


@pytest.mark.skipif(
    not ICT.exists(),
    reason=f"no {ICT}: python3 run.py test runs it where DCIGN_ICT_PATH names its folder",
)
def test_agrees_with_ray_casting_on_real_heads():
    overlap, difference = compare(scenes.load_source("ict_facekit", str(ICT)), rays=3)
    assert overlap >= 0.99
    assert difference <= 0.02


def test_the_inner_side_is_lit_from_within_as_by_ray_casting():
    # A bowl: half a sphere, which turns its inside to the camera.
    vertices, triangles = ball(60, 80)
    bowl = mesh_model(vertices, triangles[(vertices[triangles, 2] <= 1e-6).all(axis=1)], 0.8)
    none = np.zeros(2, np.float32)
    for light in (-60, 0, 45):
        expected, covered = cast(bowl, none, 15, 10, light, 80)
        image = picture(bowl, 15, 10, light, 80)
        assert np.abs(image - expected)[covered > 0.99].mean() < 0.01


# --- Directions ----------------------------------------------------------------------------------


def test_positive_azimuth_turns_the_nose_to_the_viewers_right():
    nose = mesh_model(*together(ball(radius=0.5), square(z=0.6, half=0.1)))
    white_nose = dataclasses.replace(nose, mean_albedo=np.array([0] * 800 + [1] * 4))
    for azimuth in (20, 60):
        x, y = middle(picture(white_nose, azimuth, shading=PLAIN))
        assert x > 5
        assert abs(y) < 0.5
    assert middle(picture(white_nose, -30, shading=PLAIN))[0] < -5


def test_positive_elevation_looks_up_and_shows_the_underside():
    nose = mesh_model(*together(ball(radius=0.5), square(z=0.6, half=0.1)))
    white_nose = dataclasses.replace(nose, mean_albedo=np.array([0] * 800 + [1] * 4))
    x, y = middle(picture(white_nose, 0, 20, shading=PLAIN))
    assert y > 5
    assert abs(x) < 0.5

    vertices, triangles = ball()
    underside = mesh_model(vertices, triangles, np.float32(vertices[:, 1] < -0.6))
    seen = [picture(underside, 0, elevation, shading=PLAIN).sum() for elevation in (-25, 0, 25)]
    assert seen[0] < seen[1] < seen[2]


def test_turned_first_and_raised_afterwards():
    # On a turntable the axis of the turn leans toward the camera by the same angle from all sides.
    np.testing.assert_allclose(
        rotation(70, 20) @ [0, 1, 0], [0, np.cos(np.pi / 9), -np.sin(np.pi / 9)]
    )
    assert np.allclose(rotation(30, -10) @ rotation(30, -10).T, np.eye(3))
    assert (rotation(90, 0) @ [0, 0, 1])[0] == pytest.approx(1)


def test_light_from_the_right_brightens_the_right():
    model = mesh_model(*ball(), albedo=0.8)
    right = picture(model, light=60)
    assert middle(right)[0] > 3
    assert middle(picture(model, light=-60))[0] < -3
    np.testing.assert_allclose(right[:, ::-1], picture(model, light=-60), atol=0.1)
    np.testing.assert_allclose(
        light_direction(90, 0) + light_direction(0, 90), [1, 1, 0], atol=1e-12
    )


def test_light_stays_with_the_camera_as_the_head_turns():
    model = mesh_model(*ball(96, 128), albedo=0.8)
    difference = picture(model, 0, 0, 40) - picture(model, 70, 15, 40)
    assert np.abs(difference).mean() < 0.005


def test_nearer_is_larger_as_perspective_has_it():
    def width(z):
        return np.sqrt(picture(mesh_model(*square(z=z)), size=200, shading=PLAIN).sum())

    distance = 1 / np.tan(np.radians(10))
    assert width(0) == pytest.approx(0.5 / 2 * 200, abs=0.01)
    assert width(0.9) == pytest.approx(width(0) * distance / (distance - 0.9), rel=0.01)
    assert width(-0.9) == pytest.approx(width(0) * distance / (distance + 0.9), rel=0.01)


def test_camera_frames_center_and_radius():
    shape, triangles = square(half=1.0)
    center = np.array([3, 4, 5])
    model = dataclasses.replace(mesh_model(shape + center, triangles), center=center)
    assert (picture(model, shading=PLAIN) == 1).all()
    half = picture(model, shading=PLAIN, camera=Camera(zoom=0.5))
    assert half.sum() == 64 * 64 / 4
    assert (half[16:48, 16:48] == 1).all()
    # The lens changes the perspective, not the size of what lies at the center.
    np.testing.assert_array_equal(
        half, picture(model, shading=PLAIN, camera=Camera(zoom=0.5, field_of_view=60))
    )


# --- Shading -------------------------------------------------------------------------------------


def test_a_flat_surface_has_the_formulas_shade():
    model = mesh_model(*square(half=2.0), albedo=0.5)
    light, b = np.radians(40), np.radians(15)
    lit = np.cos(light) * np.cos(b)
    half = np.array([np.sin(light) * np.cos(b), np.sin(b), lit + 1])
    gleam = (half[2] / np.linalg.norm(half)) ** 12
    expected = 0.5 * (0.2 + 0.8 * lit) + 0.08 * gleam
    np.testing.assert_allclose(picture(model, light=40), expected, atol=0.51 / 255)
    dull = Shading(specular=0.0)
    np.testing.assert_allclose(
        picture(model, light=40, shading=dull), 0.5 * (0.2 + 0.8 * lit), atol=0.51 / 255
    )
    dark = picture(model, light=40, coefficients=np.array([[0, 2]]), shading=dull)
    np.testing.assert_allclose(dark, 0.3 * (0.2 + 0.8 * lit), atol=0.51 / 255)


def test_too_bright_is_white_and_no_surface_is_background():
    model = mesh_model(*square(), albedo=1.0)
    bright = Shading(ambient=1.0, diffuse=1.0, specular=1.0, background=0.4)
    image = picture(model, shading=bright)
    assert image[32, 32] == 1
    assert image[0, 0] == pytest.approx(0.4, abs=0.5 / 255)
    black = Shading(ambient=0.0, diffuse=0.0, specular=0.0, background=1.0)
    image = picture(model, shading=black)
    assert image[32, 32] == 0
    assert image[0, 0] == 1
    assert (picture(model, shading=Shading(ambient=0.0, diffuse=0.0, specular=0.0)) == 0).all()


def test_normals_of_a_sphere_point_outward():
    vertices, triangles = ball(48, 64)
    normals = smooth_normals(vertices.astype(np.float32), triangles.astype(np.int32))
    lengths = np.linalg.norm(normals, axis=1)
    inner = slice(64, -64)  # The poles' triangles share places, not vertices.
    np.testing.assert_allclose(lengths[inner], 1, atol=1e-5)
    outward = (normals * vertices).sum(axis=1) / 0.8
    assert (outward[inner] > 0.99).all()


# --- What hides what -----------------------------------------------------------------------------


@pytest.mark.parametrize("supersample", [1, 2, 3])
def test_nearer_surfaces_win_whatever_the_order_of_triangles(supersample):
    rng = np.random.default_rng(5)
    parts = [
        square(rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4), z, 0.4)
        for z in np.linspace(-0.5, 0.5, 12)
    ]
    vertices, triangles = together(*parts)
    albedo = np.repeat(rng.uniform(0.2, 1, 12), 4)
    images = set()
    for _ in range(5):
        flipped = [t[::-1] if rng.random() < 0.5 else t for t in rng.permutation(triangles)]
        model = mesh_model(vertices, flipped, albedo)
        image = picture(model, size=48, shading=PLAIN, supersample=supersample)
        images.add(image.tobytes())
    assert len(images) == 1
    x, y = (23.5 + 24 * parts[-1][0].mean(axis=0)[:2] * [1, -1]).astype(int)
    assert image[y, x] == pytest.approx(albedo[-1], abs=0.5 / 255)


def test_intersecting_surfaces_cut_each_other():
    vertical, triangles = square(half=0.8)
    tilted = vertical @ [[1, 0, 0.5], [0, 1, 0], [0, 0, 1]]
    model = mesh_model(
        *together((vertical, triangles), (tilted, triangles)), albedo=[0.2] * 4 + [1] * 4
    )
    image = picture(model, size=80, shading=PLAIN)
    assert image[40, 20] == pytest.approx(0.2, abs=0.01)
    assert image[40, 60] == 1


def test_nothing_shows_through_between_triangles():
    # Slivers of all directions and sizes, over a black square.
    rng = np.random.default_rng(7)
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 23)), -1)
    grid[1:-1, 1:-1] += rng.uniform(-0.02, 0.02, grid[1:-1, 1:-1].shape)
    vertices = np.concatenate([grid, np.zeros((*grid.shape[:2], 1))], -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(22), np.arange(39), indexing="ij")
    a = i * 40 + j
    triangles = np.stack([a, a + 1, a + 41, a, a + 41, a + 40], -1).reshape(-1, 3)
    black = square(z=-0.5, half=3)
    model = mesh_model(
        *together((vertices, triangles), black),
        albedo=np.concatenate([np.ones(len(vertices)), [0] * 4]),
    )
    for zoom, size in ((1.5, 64), (4.0, 200), (50.0, 31)):
        image = picture(model, size=size, shading=PLAIN, camera=Camera(zoom=zoom))
        assert (image == 1).all()


def test_without_back_faces_closed_meshes_look_the_same_and_open_ones_do_not():
    closed = mesh_model(*ball(bumps=0.2))
    for azimuth in (0.0, 70.0, 200.0):
        both, outside = (picture(closed, azimuth, 10.0, back_faces=b) for b in (True, False))
        assert np.array_equal(both, outside)
    turned_away = mesh_model(*square())
    assert picture(turned_away, 180.0).any()
    assert not picture(turned_away, 180.0, back_faces=False).any()


def test_hidden_back_faces_left_out_change_nothing():
    # Inside out, the nearer half of the ball is the one that is left out or not.
    vertices, triangles = ball(40, 60, bumps=0.2)
    model = mesh_model(vertices, triangles, 0.8)
    split = dataclasses.replace(  # the same triangles, given twice, once from either side
        model, triangles=np.concatenate([triangles, triangles[:, ::-1]]).astype(np.int32)
    )
    assert (picture(split, 40, 20, shading=PLAIN) == picture(model, 40, 20, shading=PLAIN)).all()


# --- Anti-aliasing -------------------------------------------------------------------------------


@pytest.mark.parametrize("supersample", [2, 3, 4])
def test_supersampling_is_the_mean_of_a_finer_picture(supersample):
    model = mesh_model(*ball(bumps=0.1), albedo=0.7)
    size = 40
    fine = picture(model, 30, 10, 20, size * supersample, supersample=1)
    mean = fine.reshape(size, supersample, size, supersample).mean(axis=(1, 3))
    coarse = picture(model, 30, 10, 20, size, supersample=supersample)
    np.testing.assert_allclose(coarse, mean, atol=1.01 / 255)


# --- Meshes that differ --------------------------------------------------------------------------


def test_meshes_of_any_size_are_drawn_like_models():
    shapes = [square(), ball(), ball(9, 13, bumps=0.3), square(0.3), together(square(), ball())]
    shapes += [(np.zeros((0, 3)), np.zeros((0, 3), int))]
    meshes = [Mesh(v, np.full(len(v), 0.7), t) for v, t in shapes]
    angles = np.linspace(-180, 180, 3 * len(shapes)).reshape(3, -1)
    shading = Shading(background=1.0)
    images = render_meshes(iter(meshes), angles[0], angles[1], angles[2], 40, shading=shading)
    assert images.shape == (len(shapes), 40, 40, 1)
    for row, (vertices, triangles) in enumerate(shapes[:-1]):
        azimuth, elevation, light = angles[:, row]
        model = mesh_model(vertices, triangles, albedo=0.7)
        expected = picture(model, azimuth, elevation, light, 40, shading=shading)
        np.testing.assert_array_equal(images[row, :, :, 0] / 255.0, expected)
    assert (images[-1] == 255).all()


def test_one_mesh_may_be_shown_from_all_sides():
    vertices, triangles = ball(48, 64)
    mesh = Mesh(vertices, np.full(len(vertices), 0.5), triangles)
    azimuth = np.arange(-180, 181, 45)
    none = np.zeros(len(azimuth))
    images = render_meshes(itertools.repeat(mesh), azimuth, none, none, 50)
    np.testing.assert_array_equal(images[0], images[-1])
    assert np.abs(images - images[:1].astype(float)).mean() < 1


def test_center_and_radius_frame_a_mesh():
    vertices, triangles = square()
    mesh = Mesh(3 * vertices + [1, 2, 3], np.ones(4), triangles)
    zero = np.zeros(1)
    moved = render_meshes([mesh], zero, zero, zero, 64, shading=PLAIN, center=(1, 2, 3), radius=3.0)
    expected = picture(mesh_model(vertices, triangles), shading=PLAIN)
    np.testing.assert_array_equal(moved[0, :, :, 0] / 255.0, expected)


def test_given_normals_decide_the_shade():
    vertices, triangles = square(half=2.0)
    tilted = np.tile([0.6, 0, 0.8], (4, 1))
    mesh = Mesh(vertices, np.ones(4), triangles, tilted)
    zero = np.zeros(1)
    image = render_meshes([mesh], zero, zero, zero, 8, shading=Shading(specular=0.0))
    lit = 0.8 * np.cos(np.radians(15))
    np.testing.assert_allclose(image / 255.0, 0.2 + 0.8 * lit, atol=0.51 / 255)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vertices": np.zeros((4, 2))}, r"vertices: got shape \(4, 2\), must be \(4, 3\)"),
        ({"vertices": np.full((4, 3), np.inf)}, "vertices: holds values that are not finite"),
        ({"albedo": np.zeros(3)}, r"albedo: got shape \(3,\), must be \(4,\)"),
        ({"triangles": np.zeros((1, 4), int)}, r"triangles: got shape \(1, 4\), must be \(1, 3\)"),
        ({"triangles": np.array([(0, 1, 4)])}, "triangles: got indices 0 to 4, must be 0 to 3"),
        ({"triangles": np.zeros((1, 3))}, "triangles: got dtype float64, must be integers"),
        ({"normals": np.zeros((1, 3))}, r"normals: got shape \(1, 3\), must be \(4, 3\)"),
        ({"normals": np.full((4, 3), np.nan)}, "normals: holds values that are not finite"),
    ],
)
def test_bad_meshes_are_named(changes, message):
    vertices, triangles = square()
    parts = {"vertices": vertices, "albedo": np.ones(4), "triangles": triangles}
    with pytest.raises(ValueError, match=message):
        Mesh(**(parts | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meshes": []}, "meshes: got 0, must be 2"),
        ({"center": (0, 0)}, r"center: got \[0.0, 0.0\], must be 3 finite numbers"),
        ({"center": (0, 0, np.nan)}, "center: got"),
        ({"radius": 0.0}, "radius: got 0.0, must be positive"),
        ({"radius": np.inf}, "radius: got inf"),
        ({"elevation": np.zeros(3)}, r"elevation: got shape \(3,\), must be \(2,\)"),
    ],
)
def test_bad_views_of_meshes_are_named(changes, message):
    vertices, triangles = square()
    mesh = Mesh(vertices, np.ones(4), triangles)
    zero = np.zeros(2)
    arguments = {"meshes": [mesh] * 2, "azimuth": zero, "elevation": zero, "light_azimuth": zero}
    with pytest.raises(ValueError, match=message):
        render_meshes(**(arguments | changes), image_size=8)


# --- Same parameters, same bytes -----------------------------------------------------------------


@functools.cache
def face():
    return scenes.load_source("builtin_face")


def face_scenes(n=12):
    rng = np.random.default_rng(11)
    coefficients = face().draw(rng, n)
    coefficients[3:7] = coefficients[3]  # Neighbours that share a mesh.
    angles = rng.uniform(-1, 1, (3, n)) * [[90], [25], [80]]
    return coefficients, angles


def render_face(rows):
    coefficients, angles = face_scenes()
    images = render_all(face(), coefficients[rows], angles[:, rows], 48)
    return hashlib.sha256(images.tobytes()).hexdigest()


def test_same_bytes_alone_in_batches_and_in_threads():
    coefficients, angles = face_scenes()
    n = len(coefficients)
    images = render_all(face(), coefficients, angles, 48)
    orders = [np.arange(n)[::-1], np.r_[5, 0, 3, 11, 4, 6, 1], np.array([2])]
    orders += [np.array([row]) for row in range(n)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        again = pool.map(
            lambda rows: render_all(face(), coefficients[rows], angles[:, rows], 48), orders
        )
        for rows, some in zip(orders, again, strict=True):
            np.testing.assert_array_equal(some, images[rows])
    # As many identities as make more than one bunch of meshes.
    many = np.resize(np.arange(n), 90)
    np.testing.assert_array_equal(
        render_all(face(), coefficients[many], angles[:, many], 48), images[many]
    )


def test_same_bytes_in_other_processes():
    rows = np.array([9, 3, 4])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(render_face, [rows]) == render_face(rows)


def test_strided_and_double_precision_arguments_make_no_difference():
    coefficients, angles = face_scenes()
    images = render_all(face(), coefficients, angles, 32)
    wide = np.zeros((len(coefficients), 2 * coefficients.shape[1]))
    wide[:, ::2] = coefficients
    np.testing.assert_array_equal(render_all(face(), wide[:, ::2], angles.tolist(), 32), images)


# --- Extremes ------------------------------------------------------------------------------------


def test_degenerate_triangles_draw_nothing():
    points = [(-0.5, 0, 0), (0.5, 0, 0), (0, 0, 0), (0, 0.5, 0)]
    flat = [(0, 0, 1), (0, 1, 2), (3, 3, 3), (2, 1, 0)]
    assert picture(mesh_model(points, flat), shading=PLAIN).sum() == 0
    assert np.isfinite(smooth_normals(np.array(points, np.float32), np.array(flat, np.int32))).all()
    none = mesh_model(points, np.zeros((0, 3), int))
    assert picture(none, shading=Shading(background=0.2)).mean() == pytest.approx(0.2)


def test_surfaces_behind_the_camera_are_not_seen():
    distance = 1 / np.tan(np.radians(10))
    for z in (distance + 0.5, distance, distance - 1e-4):
        assert picture(mesh_model(*square(z=z)), shading=PLAIN).sum() == 0
    # A triangle that reaches behind the camera is left out, and nothing else with it.
    reaching = together(square(half=0.5), ([(0, 0, 0), (0.1, 0, 0), (0, 0, 99)], [(0, 1, 2)]))
    only = picture(mesh_model(*square(half=0.5)), shading=PLAIN)
    np.testing.assert_array_equal(picture(mesh_model(*reaching), shading=PLAIN), only)


def test_triangles_far_larger_than_the_picture_fill_it():
    for half in (1e2, 1e4, 1e6):
        model = mesh_model(*square(half=half), albedo=0.6)
        np.testing.assert_allclose(picture(model, shading=PLAIN), 0.6, atol=0.5 / 255)
    # Turned, it must still end before the camera.
    image = picture(
        mesh_model(*square(half=5)), 35, 20, shading=PLAIN, camera=Camera(zoom=100), size=500
    )
    assert (image == 1).all()


def test_absurd_identities_do_not_crash():
    model = face()
    for scale in (1e3, 1e20, 3e38):
        coefficients = np.full((1, model.coefficients), scale, np.float32)
        image = picture(model, 10, 5, 20, coefficients=coefficients, size=20)
        assert image.shape == (20, 20)


def test_size_one_and_other_sizes():
    model = mesh_model(*square(half=2))
    for size, supersample in ((1, 1), (1, 16), (3, 5), (7, 2), (130, 1)):
        image = picture(model, size=size, supersample=supersample, shading=PLAIN)
        assert image.shape == (size, size)
        assert (image == 1).all()


def test_empty_batch():
    model = mesh_model(*square())
    none = np.zeros(0)
    images = render(model, np.zeros((0, 2)), none, none, none, 32)
    assert images.shape == (0, 32, 32, 1)
    assert images.dtype == np.uint8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coefficients": np.zeros((2, 3))}, r"coefficients: got shape \(2, 3\), must be \[N, 2\]"),
        ({"coefficients": np.zeros(2)}, r"coefficients: got shape \(2,\)"),
        ({"coefficients": np.full((2, 2), np.nan)}, "must be finite"),
        ({"azimuth": np.zeros(3)}, r"azimuth: got shape \(3,\), must be \(2,\)"),
        ({"elevation": np.zeros((2, 1))}, r"elevation: got shape \(2, 1\)"),
        ({"light_azimuth": 3.0}, r"light_azimuth: got shape \(\)"),
        ({"azimuth": np.array([0, np.inf])}, "must be finite"),
        ({"image_size": 0}, "image_size: got 0, must be 1 to 4096"),
        ({"image_size": 5000}, "image_size: got 5000"),
        ({"supersample": 0}, "supersample: got 0, must be 1 to 16"),
        ({"supersample": 17}, "supersample: got 17"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    arguments = {
        "coefficients": np.zeros((2, 2)),
        "azimuth": np.zeros(2),
        "elevation": np.zeros(2),
        "light_azimuth": np.zeros(2),
        "image_size": 8,
    }
    with pytest.raises(ValueError, match=message):
        render(mesh_model(*square()), **(arguments | changes))


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (Camera, {"field_of_view": 0.5}, "field_of_view: got 0.5, must be 1 to 90 degrees"),
        (Camera, {"field_of_view": float("nan")}, "field_of_view: got nan"),
        (Camera, {"zoom": 0}, "zoom: got 0, must be 0.1 to 100"),
        (Shading, {"ambient": -0.1}, "ambient: got -0.1, must be 0 to 1"),
        (Shading, {"diffuse": 1.5}, "diffuse: got 1.5"),
        (Shading, {"specular": 2}, "specular: got 2"),
        (Shading, {"background": float("nan")}, "background: got nan"),
        (Shading, {"shininess": 0.5}, "shininess: got 0.5, must be 1 to 1000"),
        (Shading, {"light_elevation": 91}, "light_elevation: got 91, must be -90 to 90"),
    ],
)
def test_bad_cameras_and_shadings_are_named(make, changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


# --- Photographs -----------------------------------------------------------------------------------


def plain_take(size: int, **changes) -> Take:
    """A take that shows what an image without one does: before black, intensities as they are."""
    shading = changes.pop("shading", Shading())
    parts = {
        "camera": Camera(),
        "shading": shading,
        "curve": np.clip(np.linspace(0, shading.brightest, 4096), 0, 1),
        "background": np.zeros((size, size), np.uint8),
        "cover": np.zeros((size, size), np.uint8),
    }
    return Take(**{**parts, **changes})


def lopsided() -> MorphableModel:
    """A bumpy ball beside a small one, as no turn or mirror shows it again."""
    side, triangles = ball(radius=0.2)
    return mesh_model(
        *together(ball(bumps=0.1, radius=0.6), (side + np.array([0.5, 0.5, 0.0]), triangles)), 0.8
    )


@pytest.mark.parametrize("supersample", [1, 2, 3])
def test_a_plain_take_shows_the_plain_image(supersample) -> None:
    options = {"azimuth": 20.0, "light": 50.0, "supersample": supersample}
    plain = picture(lopsided(), **options)
    taken = picture(lopsided(), takes=[plain_take(64)], **options)
    assert np.abs(taken - plain).max() <= 1.01 / 255


def test_the_background_is_behind_the_head_as_far_as_that_covers_it() -> None:
    rng = np.random.default_rng(0)
    background = rng.integers(0, 256, (64, 64), np.uint8)
    head = picture(lopsided(), shading=PLAIN, supersample=3) / 0.8  # its cover
    shown = picture(
        lopsided(), takes=[plain_take(64, shading=PLAIN, background=background)], supersample=3
    )
    expected = 0.8 * head + background / 255 * (1 - head)
    assert 0 < ((head > 0.1) & (head < 0.9)).sum()  # There is an edge to look at.
    np.testing.assert_allclose(shown, expected, atol=2.5 / 255)


def test_what_lies_before_the_head_hides_it() -> None:
    cover = np.zeros((64, 64), np.uint8)
    cover[40:], cover[30:40] = 255, 51
    background = np.full((64, 64), 200, np.uint8)
    options = {"shading": PLAIN, "background": background}
    shown = picture(lopsided(), takes=[plain_take(64, cover=cover, **options)])
    free = picture(lopsided(), takes=[plain_take(64, **options)])
    assert (shown[40:] == 200 / 255).all() and (shown[:30] == free[:30]).all()
    expected = free[30:40] + 0.2 * (200 / 255 - free[30:40])
    np.testing.assert_allclose(shown[30:40], expected, atol=1.5 / 255)


def test_the_film_turns_light_into_grey() -> None:
    curve = np.linspace(0, 1, 1024) ** 0.5
    shading = Shading(ambient=0.2, diffuse=0.8, specular=0.0)
    plain = picture(lopsided(), light=40.0, shading=shading)
    developed = picture(
        lopsided(), light=40.0, takes=[plain_take(64, shading=shading, curve=curve)]
    )
    # On edges, what is developed is not what covers the pixel.
    inside = picture(lopsided(), shading=PLAIN) > 0.79
    assert inside.sum() > 500
    np.testing.assert_allclose(developed[inside], plain[inside] ** 0.5, atol=2 / 255)


def test_a_camera_that_is_aside_shows_the_head_aside() -> None:
    # Orthographic, or nearly, and in full light: all that can change is where the head is seen.
    x, y = middle(picture(lopsided(), shading=PLAIN))
    moved = Camera(right=0.125, up=-0.0625)
    there = middle(picture(lopsided(), shading=PLAIN, camera=moved))
    np.testing.assert_allclose(there, (x + 8, y - 4), atol=0.05)
    upright = picture(lopsided(), shading=PLAIN)
    on_its_side = picture(lopsided(), shading=PLAIN, camera=Camera(roll=90.0))
    assert np.abs(on_its_side - np.rot90(upright)).mean() < 0.01
    assert np.abs(on_its_side - upright).mean() > 0.05
    # The light does not turn with the head.
    for roll in (0.0, 90.0, 180.0):
        lit = picture(mesh_model(*ball()), light=80.0, camera=Camera(roll=roll))
        assert middle(lit)[0] > 5


def test_each_image_has_its_own_take() -> None:
    model = lopsided()
    coefficients = np.repeat(np.array([[0, 0], [1, 1]], np.float32), 3, axis=0)
    angles = np.random.default_rng(3).uniform(-40, 40, (3, 6))
    takes = [
        plain_take(
            16,
            camera=Camera(zoom=1 + 0.1 * k, roll=5.0 * k),
            shading=Shading(ambient=0.1 * k, light_elevation=10.0 * k),
            background=np.full((16, 16), 30 * k, np.uint8),
        )
        for k in (0, 1, 1, 2, 2, 3)
    ]
    together_ = render_all(model, coefficients, angles, 16, takes=takes)
    alone = [
        render_all(model, coefficients[i : i + 1], angles[:, i : i + 1], 16, takes=takes[i : i + 1])
        for i in range(6)
    ]
    np.testing.assert_array_equal(together_, np.concatenate(alone))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"curve": np.zeros(1)}, "curve: must be two or more grey values"),
        ({"curve": np.array([0.0, 1.5])}, "curve: must be"),
        ({"curve": np.array([0.0, np.nan])}, "curve: must be"),
        ({"background": np.zeros((8, 9), np.uint8)}, r"background: got uint8 \(8, 9\)"),
        ({"cover": np.zeros((8, 8))}, "cover: got float64"),
    ],
)
def test_impossible_takes_are_refused(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        plain_take(8, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"right": 2.0}, "right: got 2.0"), ({"up": -1.5}, "up: got"), ({"roll": 200.0}, "roll: got")],
)
def test_impossible_cameras_are_refused(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        Camera(**changes)


def test_takes_must_fit_the_images() -> None:
    with pytest.raises(ValueError, match="takes: got 2, must be 1"):
        picture(lopsided(), takes=[plain_take(64)] * 2)
    with pytest.raises(ValueError, match="background of 8 and a cover of 8 pixels, must be 64"):
        picture(lopsided(), takes=[plain_take(8)])
