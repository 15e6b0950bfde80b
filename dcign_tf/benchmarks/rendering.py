"""The renderer beside established ones: VTK (on Mesa's software rasterizer) and ray casting by Embree.

All draw the same meshes in the same poses under the same light with four samples per pixel. The peers are driven
as is fastest: windows, cameras, lights and buffers are made once, only what changes is sent, rays are cast only
toward the mesh. What they have no quick tool for, a mesh from a model's coefficients and its normals, they get from
this package, and its cost counts for all alike. Each has one core: all of them make use of more by more processes.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from dcign_tf import scenes
from dcign_tf.benchmarks import sections, workers
from dcign_tf.benchmarks.sections import OURS, Row, Section, Settings, Verdict
from dcign_tf.benchmarks.workers import Candidate
from dcign_tf.scenes.morphable import MorphableModel
from dcign_tf.scenes.render import (
    Camera,
    Shading,
    light_direction,
    render,
    rotation,
    smooth_normals,
)

SHARED, EACH = "one identity", "an identity each"
CASES = (SHARED, EACH)
OURS_CULLED = f"{OURS} without back faces"
VTK, VTK_CULLED, EMBREE = "VTK", "VTK without back faces", "Embree"
# Who draws the same pictures: all surfaces, or those seen from outside alone.
_RACES = {OURS: (VTK, EMBREE), OURS_CULLED: (VTK_CULLED,)}
_REQUIRES = {VTK: ("vtk",), VTK_CULLED: ("vtk",), EMBREE: ("embreex",)}
# What an identity of its own costs on top of drawing.
_SHAPES, _NORMALS = "of an identity each: shape and reflectance", "of an identity each: normals"
_TARGET = 10.0
_BATCHES = 4  # that differ: of the same few images again and again all would stay in caches
_SUPERSAMPLE = 2


class Batch(NamedTuple):
    """Scenes to draw.

    Attributes:
        coefficients: float32 [N, K].
        degrees: float64 [N, 3], azimuth, elevation and light azimuth.
    """

    coefficients: np.ndarray
    degrees: np.ndarray


class Renderer(Protocol):
    """What is compared."""

    def draw(self, batch: Batch) -> np.ndarray:
        """Images of a batch; uint8 [N, S, S]."""
        ...


def draw_batches(model: MorphableModel, case: str, size: int, count: int = _BATCHES) -> list[Batch]:
    """Draws `count` batches of `size` scenes each, always the same ones."""
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(count):
        degrees = rng.uniform(-1, 1, (size, 3)) * [90, 25, 80]
        identities = model.draw(rng, size)
        if case == SHARED:
            identities = identities[:1].repeat(size, axis=0)
        batches.append(Batch(identities, degrees))
    return batches


def renderer(name: str, model: MorphableModel, image_size: int) -> Renderer:
    """One of ours and the peers, by its name."""
    if name in _RACES:
        return _Ours(model, image_size, back_faces=name == OURS)
    if name == EMBREE:
        return _Embree(model, image_size)
    return _Vtk(model, image_size, cull=name == VTK_CULLED)


class _Work:
    """Draws batches, one at each call."""

    def __init__(self, drawn_by: Renderer, model: MorphableModel, size: int) -> None:
        self._renderer = drawn_by
        self._batches = {case: draw_batches(model, case, size) for case in CASES}
        self._calls = 0

    def __call__(self, case: str) -> np.ndarray:
        self._calls += 1
        return self._renderer.draw(self._batches[case][self._calls % _BATCHES])


def _stay_on_one_core() -> None:
    """Where the system lets us choose."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def drawing(name: str, source: str, path: str | None, image_size: int, batch: int) -> _Work:
    """Makes a renderer ready."""
    _stay_on_one_core()
    model = scenes.load_source(source, path)
    return _Work(renderer(name, model, image_size), model, batch)


def building(source: str, path: str | None, batch: int) -> Callable[[str], object]:
    """Makes ready what every renderer needs of a mini-batch before it can draw: `_SHAPES` or `_NORMALS`, by name."""
    _stay_on_one_core()
    model = scenes.load_source(source, path)
    identities = itertools.cycle([drawn.coefficients for drawn in draw_batches(model, EACH, batch)])
    shapes = model.vertices(next(identities))

    def build(part: str) -> object:
        if part == _NORMALS:
            return [smooth_normals(vertices, model.triangles) for vertices in shapes]
        coefficients = next(identities)
        return model.vertices(coefficients), model.albedo(coefficients)

    return build


def measure(settings: Settings) -> Section:
    """Times how long each takes to draw a mini-batch."""
    arguments = {
        "source": settings.source,
        "path": settings.source_path,
        "image_size": settings.image_size,
        "batch": settings.batch,
    }
    rows: list[Row] = []
    verdicts = []
    for case in CASES:
        candidates = [
            Candidate(
                name,
                f"{__name__}:drawing",
                {"name": name, **arguments},
                {"case": case},
                # Mesa draws in the thread that asks for it.
                {"LP_NUM_THREADS": "0"},
                _REQUIRES.get(name, ()),
            )
            for ours, peers in _RACES.items()
            for name in (ours, *peers)
        ]
        found = workers.race(
            candidates, settings.rounds, settings.warm_up, title=f"renderer, {case}"
        )
        ratios = {
            name: workers.ratios(found[name], found[ours]).median
            for ours, peers in _RACES.items()
            for name in peers
            if not found[name].problem
        }
        for ours, peers in _RACES.items():
            compared = {name: found[name] for name in (ours, *peers)}
            rows += [
                row._replace(candidate=f"{row.candidate}, {case}")
                for row in sections.time_rows(_per_image(compared, settings.batch), "ms", ours)
            ]
        if ratios:
            fastest = min(ratios, key=lambda name: ratios[name])
            verdicts.append(
                Verdict(
                    f"renderer, {case}: at least {_TARGET:g} times as fast as any peer at the same picture",
                    f"{ratios[fastest]:.1f} times ({fastest})",
                    ratios[fastest] >= _TARGET,
                )
            )
    source = {"source": settings.source, "path": settings.source_path, "batch": settings.batch}
    parts = workers.race(
        [
            Candidate(name, f"{__name__}:building", source, {"part": name})
            for name in (_SHAPES, _NORMALS)
        ],
        settings.rounds,
        settings.warm_up,
        title="renderer, its parts",
    )
    rows += sections.time_rows(_per_image(parts, settings.batch), "ms", None)
    return Section(
        "rendering",
        f"Renderer: an image of {settings.image_size} x {settings.image_size}, on one core",
        rows,
        notes=[
            f"Time per image of a mini-batch of {settings.batch}: of one identity, whose mesh is made once, or of an "
            f"identity each. The mesh is that of the source {settings.source}; four samples per pixel. "
            "Shapes, reflectances and normals are made by this package for all alike, and count; the rest is drawing.",
            "Without back faces, what is seen from inside is left out, by both: of closed meshes the pictures are "
            "the same, of heads open at the neck a little is missing.",
        ],
        verdicts=verdicts,
    )


def _per_image(outcomes: dict[str, workers.Outcome], batch: int) -> dict[str, workers.Outcome]:
    return {
        name: outcome._replace(seconds=tuple(seconds / batch for seconds in outcome.seconds))
        for name, outcome in outcomes.items()
    }


class _Ours:
    def __init__(self, model: MorphableModel, image_size: int, back_faces: bool) -> None:
        self._model, self._size, self._back_faces = model, image_size, back_faces

    def draw(self, batch: Batch) -> np.ndarray:
        azimuth, elevation, light = batch.degrees.T
        images = render(
            self._model,
            batch.coefficients,
            azimuth,
            elevation,
            light,
            self._size,
            supersample=_SUPERSAMPLE,
            back_faces=self._back_faces,
        )
        return images[..., 0]


class _Shape(NamedTuple):
    """A mesh for the peers."""

    vertices: np.ndarray  # float32 [V, 3]
    normals: np.ndarray  # float32 [V, 3]
    albedo: np.ndarray  # float32 [V]


def _shapes(model: MorphableModel, batch: Batch) -> Iterator[_Shape | None]:
    """Yields the mesh of each image; None where it is that of the image before."""
    is_new = np.ones(len(batch.coefficients), bool)
    is_new[1:] = (batch.coefficients[1:] != batch.coefficients[:-1]).any(axis=1)
    identities = batch.coefficients[is_new]
    made = zip(model.vertices(identities), model.albedo(identities), strict=True)
    for new in is_new:
        if not new:
            yield None
            continue
        vertices, albedo = next(made)
        yield _Shape(vertices, smooth_normals(vertices, model.triangles), albedo)


class _Vtk:
    """One window for all images, twice as large as they are."""

    def __init__(self, model: MorphableModel, image_size: int, cull: bool) -> None:
        import vtk
        from vtk.util import numpy_support

        vtk.vtkObject.GlobalWarningDisplayOff()
        camera, shading = Camera(), Shading()
        self._model, self._fine = model, _SUPERSAMPLE * image_size
        self._to_numpy = numpy_support.vtk_to_numpy
        count = len(model.mean_shape)
        # VTK draws from these very arrays.
        self._vertices = np.zeros((count, 3), np.float32)
        self._normals = np.zeros((count, 3), np.float32)
        self._colors = np.zeros((count, 3), np.uint8)
        arrays = [
            numpy_support.numpy_to_vtk(array)
            for array in (self._vertices, self._normals, self._colors)
        ]
        points = vtk.vtkPoints()
        points.SetData(arrays[0])
        starts = np.arange(0, model.triangles.size + 1, 3, dtype=np.int32)
        cells = vtk.vtkCellArray()
        cells.SetData(
            *(numpy_support.numpy_to_vtk(a, deep=True) for a in (starts, model.triangles.ravel()))
        )
        mesh = vtk.vtkPolyData()
        mesh.SetPoints(points)
        mesh.SetPolys(cells)
        mesh.GetPointData().SetNormals(arrays[1])
        mesh.GetPointData().SetScalars(arrays[2])
        self._changing: list[Any] = [*arrays, points, mesh]
        mapper = vtk.vtkPolyDataMapper()
        mapper.SetInputData(mesh)
        mapper.StaticOn()
        actor = vtk.vtkActor()
        actor.SetMapper(mapper)
        surface = actor.GetProperty()
        surface.SetAmbient(shading.ambient)
        surface.SetDiffuse(shading.diffuse)
        surface.SetSpecular(shading.specular)
        surface.SetSpecularPower(shading.shininess / 4)  # VTK's highlight is Phong's.
        surface.SetBackfaceCulling(cull)
        self._pose = vtk.vtkMatrix4x4()
        actor.SetUserMatrix(self._pose)
        scene = vtk.vtkRenderer()
        scene.AddActor(actor)
        scene.SetBackground(0, 0, 0)
        scene.AutomaticLightCreationOff()
        self._light = vtk.vtkLight()
        self._light.SetLightTypeToSceneLight()
        self._light.PositionalOff()
        self._light.SetFocalPoint(0, 0, 0)
        scene.AddLight(self._light)
        distance = model.radius / np.tan(np.radians(camera.field_of_view) / 2)
        eye = scene.GetActiveCamera()
        eye.SetPosition(0, 0, distance)
        eye.SetFocalPoint(0, 0, 0)
        eye.SetViewUp(0, 1, 0)
        eye.SetViewAngle(camera.field_of_view)
        eye.SetClippingRange(0.5 * distance, 1.5 * distance)
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        # Drawing twice as large takes half as long as Mesa's own multisampling.
        self._window.SetMultiSamples(0)
        self._window.SetSize(self._fine, self._fine)
        self._window.AddRenderer(scene)
        self._pixels = vtk.vtkUnsignedCharArray()

    def draw(self, batch: Batch) -> np.ndarray:
        size, last = self._fine // _SUPERSAMPLE, self._fine - 1
        images = np.empty((len(batch.degrees), size, size), np.uint8)
        for shape, (azimuth, elevation, light), image in zip(
            _shapes(self._model, batch), batch.degrees, images, strict=True
        ):
            if shape is not None:
                self._vertices[:], self._normals[:] = shape.vertices, shape.normals
                self._colors[:] = np.round(255 * shape.albedo)[:, None]
                for changed in self._changing:
                    changed.Modified()
            pose = np.eye(4)
            pose[:3, :3] = rotation(azimuth, elevation)
            pose[:3, 3] = -pose[:3, :3] @ self._model.center
            self._pose.DeepCopy(pose.ravel())
            self._light.SetPosition(light_direction(light, Shading().light_elevation))
            self._window.Render()
            self._window.GetPixelData(0, 0, last, last, 0, self._pixels, 0)
            pixels = self._to_numpy(self._pixels)[:, 0].reshape(last + 1, last + 1)[::-1]
            rows = pixels[::2].astype(np.uint16) + pixels[1::2]
            image[:] = (rows[:, ::2] + rows[:, 1::2] + 2) >> 2
        return images


class _Embree:
    """A tree for each identity; vertices are lit as ours are, and what rays meet is interpolated."""

    def __init__(self, model: MorphableModel, image_size: int) -> None:
        from embreex import mesh_construction, rtcore_scene

        self._mesh, self._scene = mesh_construction.TriangleMesh, rtcore_scene.EmbreeScene
        self._model, self._fine = model, _SUPERSAMPLE * image_size
        self._tangent = np.tan(np.radians(Camera().field_of_view) / 2)
        self._distance = model.radius / self._tangent
        across = (2 * (np.arange(self._fine) + 0.5) / self._fine - 1) * self._tangent
        right, up = np.meshgrid(across, -across)
        self._rays = np.stack([right, up, np.full_like(up, -1)], axis=-1).astype(np.float32)

    def draw(self, batch: Batch) -> np.ndarray:
        size, triangles = self._fine // _SUPERSAMPLE, self._model.triangles
        images = np.empty((len(batch.degrees), size, size), np.uint8)
        scene, box = None, np.empty((0, 3))
        current: _Shape | None = None
        for shape, (azimuth, elevation, light), image in zip(
            _shapes(self._model, batch), batch.degrees, images, strict=True
        ):
            if shape is not None:
                current, scene = shape, self._scene()
                self._mesh(scene, shape.vertices, triangles)
                ends = np.stack([shape.vertices.min(axis=0), shape.vertices.max(axis=0)])
                box = np.stack(np.meshgrid(*ends.T), axis=-1).reshape(-1, 3) - self._model.center
            assert current is not None and scene is not None
            turn = rotation(azimuth, elevation)
            x, y, z = turn @ box.T
            scale = self._fine / 2 / self._tangent / (self._distance - z)
            columns = _span(self._fine / 2 + x * scale, self._fine)
            rows = _span(self._fine / 2 - y * scale, self._fine)
            rays = self._rays[rows, columns].reshape(-1, 3) @ turn.astype(np.float32)
            eye = (self._distance * turn[2] + self._model.center).astype(np.float32)
            hits = scene.run(np.tile(eye, (len(rays), 1)), rays, output=True)
            found = np.flatnonzero(hits["primID"] >= 0)
            corners = triangles[hits["primID"][found]]
            inside = np.einsum("ij,ij->i", hits["Ng"][found], rays[found]) > 0
            outer, inner = _light(current, turn, light)
            shades = np.concatenate([outer, inner])
            a, b, c = shades[corners.T + inside * len(outer)]
            samples = np.zeros(len(rays), np.float32)
            samples[found] = a + hits["u"][found] * (b - a) + hits["v"][found] * (c - a)
            picture = np.zeros((self._fine, self._fine), np.float32)
            picture[rows, columns] = np.minimum(samples, 1).reshape(picture[rows, columns].shape)
            pairs = picture[::2] + picture[1::2]
            image[:] = (pairs[:, ::2] + pairs[:, 1::2]) * (255 / 4) + 0.5
        return images


def _light(shape: _Shape, turn: np.ndarray, light: float) -> tuple[np.ndarray, np.ndarray]:
    """Shades of the vertices seen from outside and from inside; float32 [V] each."""
    shading = Shading()
    to_light = light_direction(light, shading.light_elevation)
    half = to_light + np.array([0, 0, 1])
    half /= np.linalg.norm(half)
    lit = shape.normals @ (to_light @ turn).astype(np.float32)
    glance = shape.normals @ (half @ turn).astype(np.float32)
    sides = []
    for sign in (1, -1):
        facing = np.maximum(sign * lit, 0)
        gleam = np.maximum(sign * glance, 0) ** np.float32(shading.shininess) * (facing > 0)
        sides.append(
            shape.albedo * (shading.ambient + shading.diffuse * facing) + shading.specular * gleam
        )
    return sides[0], sides[1]


def _span(places: np.ndarray, end: int) -> slice:
    """The samples between places."""
    return slice(max(int(places.min()) - 1, 0), min(int(places.max()) + 2, end))
