"""Carries a picture's own detail along when its head is turned, raised or lit.

A network blurs what it has learned too little of: eyes, mouths, all that makes a face somebody's. The picture has it,
and the network has read the pose off it. So a head of no one in particular is laid over the picture in that pose, takes
its grey values where it faces the camera, and is turned and lit. What the picture does not show (the other cheek, the
back of the head) is the network's, and the two fade into each other. This has been done with pictures of faces since
Blanz and Vetter (1999, "A morphable model for the synthesis of 3D faces"), who fit the head's shape, too; here it is
the mean, and only its size and place are found.

It is no part of the paper, and no evaluation uses it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dcign_tf.errors import DcignError, UsageError
from dcign_tf.scenes import load_source
from dcign_tf.scenes.morphable import MorphableModel
from dcign_tf.scenes.render import (
    Camera,
    Mesh,
    Shading,
    light_direction,
    render_meshes,
    rotation,
    smooth_normals,
)
from dcign_tf.units import DEGREES

if TYPE_CHECKING:
    from dcign_tf.serving.client import Client
    from dcign_tf.serving.engine import Engine

AZIMUTH, ELEVATION, LIGHT = _FACTORS = ("azimuth", "elevation", "light_azimuth")

_BLACK = 0.15  # the brightest background that is taken for black
_DARK = 0.04  # grey values that are not so much brighter are background
_UPPER = 0.62  # of the picture: below, necks, collars and shoulders differ too much to tell where a head is
_ZOOMS = tuple(np.geomspace(0.6, 1.3, 27).tolist())
_FARTHEST = 0.15  # sides of the picture by which heads may be off its middle
_OVERLAP = 0.6  # of head and picture, over what either covers, above `_UPPER`: less is no head
_GRAZING, _FACING = 0.2, 0.55  # cosines between which a picture begins to tell what is there
_DEPTHS = 4.0  # radii of the head within which all of it is
_HIDDEN = 0.16  # of the head's radius: what is so much farther than what is seen is behind it
# Gentler than the renders': dark sides of photographs are lit by their surroundings.
_SOFT = Shading(ambient=0.5, diffuse=0.5, specular=0.0, light_elevation=20.0)
_FLAT = Shading(ambient=1.0, diffuse=0.0, specular=0.0)
_RELIT = (0.3, 1.6)  # the least and the most that light may change a grey value
_GAINS = (0.5, 2.0)
_SMOOTH, _EDGE = 0.05, 0.02  # sides of the picture
_KEPT = 16  # pictures whose surface is kept


@dataclasses.dataclass(frozen=True)
class _Surface:
    """What a picture tells of a head's surface.

    Attributes:
        grey: at each vertex the picture's grey value times `seen`; float32 [V].
        seen: how well each vertex is seen, 0 to 1; float32 [V].
        camera: where the head is.
        own: where it is in what the network makes of the picture.
        values: azimuth, elevation and light azimuth of the picture, in degrees.
        gain: how many times as bright as the network's picture the picture is.
    """

    grey: np.ndarray
    seen: np.ndarray
    camera: Camera
    own: Camera
    values: Mapping[str, float]
    gain: float


class Detailed:
    """A model whose re-renderings keep the detail of the pictures they are made from; used like the model.

    Args:
        model: here or on a server; must know an azimuth, and what else it knows of elevation and light_azimuth is used.
        head: whose mean is laid over pictures; by default the built-in head.

    Raises:
        UsageError: the model knows no azimuth in degrees.
    """

    def __init__(self, model: "Engine | Client", head: MorphableModel | None = None) -> None:
        if model.units.get(AZIMUTH) != DEGREES:
            raise UsageError(
                f"--keep_detail: is for heads that have an azimuth in degrees; this model's factors are "
                f"{', '.join(model.factor_ranges)}"
            )
        self._model = model
        self.image_size, self.units = model.image_size, model.units
        self.factor_ranges, self.periods = model.factor_ranges, model.periods
        head = head or load_source("builtin_face")
        self._center, self._radius = np.asarray(head.center), float(head.radius)
        self._vertices = head.vertices(np.zeros([1, head.coefficients], np.float32))[0]
        self._triangles = head.triangles
        self._normals = smooth_normals(self._vertices, self._triangles)
        self._surfaces: dict[bytes, _Surface] = {}

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """What the network itself makes of images; float32 [N, S, S, 1]."""
        return self._model.reconstruct(images)

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Reads the extrinsic factors off images; for each factor its value, float32 [N]."""
        return self._model.infer(images)

    def rerender(self, images: np.ndarray, values: Mapping[str, Any]) -> np.ndarray:
        """Renders what the images show with some factors set to other values, detail included.

        Args:
            images: float32 [N, S, S, 1], heads before black, framed as the model's own.
            values: new values of any of the factors: a number, or [N]; NaN keeps the factor.

        Returns:
            float32 [N, S, S, 1].

        Raises:
            DcignError: an image does not show a head before black.
        """
        return self.lay(images, self._model.rerender(images, values), values)

    def lay(
        self, images: np.ndarray, rendered: np.ndarray, values: Mapping[str, Any]
    ) -> np.ndarray:
        """Lays the detail of images over what the network has rendered of them; arguments and errors as `rerender`.

        Args:
            images: float32 [N, S, S, 1].
            rendered: float32 [N, S, S, 1], what the network makes of them at `values`.
            values: see `rerender`.

        Returns:
            float32 [N, S, S, 1].
        """
        surfaces = self._find(images)
        settings = {
            factor: np.broadcast_to(np.asarray(values.get(factor, np.nan), float), len(images))
            for factor in _FACTORS
        }
        drawn = []
        for row, (picture, surface) in enumerate(zip(rendered[..., 0], surfaces, strict=True)):
            new = {f: float(v[row]) for f, v in settings.items()}
            new = {f: surface.values[f] if np.isnan(v) else v for f, v in new.items()}
            drawn.append(self._compose(picture, surface, new))
        return np.stack(drawn)[..., None] if drawn else rendered

    def _compose(
        self, picture: np.ndarray, surface: _Surface, values: Mapping[str, float]
    ) -> np.ndarray:
        """The head's surface before the network's picture, [S, S]."""
        camera = surface.camera
        if any(values[f] != surface.values[f] for f in (AZIMUTH, ELEVATION)):
            # Heads differ in what they turn about; the network knows how far this one goes. What it draws is blurred,
            # and so larger: here as there.
            placed, _ = self._camera(_silhouette(picture), values, (camera.zoom,))
            camera = dataclasses.replace(
                camera,
                right=camera.right + placed.right - surface.own.right,
                up=camera.up + placed.up - surface.own.up,
            )
        seen = self._draw(surface.seen, values, camera)
        grey = self._draw(surface.grey, values, camera)
        # Smoothed, since the detail of this head's face is not where the picture's is.
        lit, was = (
            _blur(self._draw(self._shade(shone), values, camera), _SMOOTH)
            for shone in (values, surface.values)
        )
        grey *= np.clip(lit / np.maximum(was, 1 / 255), *_RELIT)
        grey /= np.maximum(seen, 1 / 255)
        behind = np.minimum(picture * surface.gain, 1)
        return (seen * np.clip(grey, 0, 1) + (1 - seen) * behind).astype(np.float32)

    def _find(self, images: np.ndarray) -> list[_Surface]:
        """The surfaces of images; those of the last few are remembered."""
        keys = [image.tobytes() for image in images]
        new = {k: v for k, v in zip(keys, images, strict=True) if k not in self._surfaces}
        if new:
            unknown = np.stack(list(new.values()))
            inferred, own = self._model.infer(unknown), self._model.reconstruct(unknown)
            for row, (key, image) in enumerate(new.items()):
                values = {
                    factor: float(inferred[factor][row]) if factor in inferred else 0.0
                    for factor in _FACTORS
                }
                self._surfaces[key] = self._surface(image[..., 0], own[row, ..., 0], values)
        found = [self._surfaces[key] for key in keys]
        for key in list(self._surfaces)[:-_KEPT]:
            del self._surfaces[key]
        return found

    def _surface(self, image: np.ndarray, own: np.ndarray, values: Mapping[str, float]) -> _Surface:
        """What an image [S, S] tells, of which the network makes `own` and reads `values`."""
        if (black := _black(image)) > _BLACK:
            raise DcignError(
                f"--keep_detail: needs a picture of a head before black, but half of its border has a grey value of "
                f"{black:.2f} or more; add --cut_out"
            )
        covered = _silhouette(image)
        camera, overlap = self._camera(covered, values)
        if overlap < _OVERLAP:
            raise DcignError(
                f"--keep_detail: finds no head in the picture (the best overlap is {overlap:.2f}, at least {_OVERLAP} "
                "is right); it must be framed as in training, as --crop=face does"
            )
        places, facing, depth = self._project(values, camera)
        nearest = self._draw(depth, values, camera)
        # Smoothed, so that ledges of this head's face or hair are not taken for the picture's.
        towards = _blur(self._draw(np.clip(facing, 0, 1), values, camera), _EDGE)
        towards /= np.maximum(_blur(self._draw(np.ones_like(facing), values, camera), _EDGE), 1e-6)
        seen = np.clip((_sample(towards, places) - _GRAZING) / (_FACING - _GRAZING), 0, 1)
        seen *= (facing > 0) & (depth > _sample(nearest, places) - _HIDDEN / _DEPTHS)
        # Hair and cheeks are darker where a picture of them ends.
        seen *= np.clip(2 * _sample(_blur(covered.astype(np.float32), _EDGE), places) - 1, 0, 1)
        grey = _sample(image, places) * seen
        weights = self._draw(seen, values, camera)
        gain = (weights * image).sum() / max(float((weights * own).sum()), 1e-6)
        placed, _ = self._camera(_silhouette(own), values, (camera.zoom,))
        return _Surface(grey, seen, camera, placed, values, float(np.clip(gain, *_GAINS)))

    def _camera(
        self, covered: np.ndarray, values: Mapping[str, float], zooms: Sequence[float] = _ZOOMS
    ) -> tuple[Camera, float]:
        """Finds where the head is, and how large of some zooms, from what it covers of a picture; bool [S, S].

        Returns:
            Where; and what both cover over what either does, above `_UPPER`.
        """
        side = len(covered)
        farthest = round(_FARTHEST * side)
        window = np.zeros((side, side), np.float32)
        window[: round(_UPPER * side)] = 1
        white = np.ones(len(self._vertices), np.float32)
        there = covered * window
        # How much of the head, in the window, is where the picture has one, and how much is there at all: for all
        # shifts at once.
        shifts, size = slice(2 * farthest + 1), (2 * side,) * 2
        spectra = np.fft.rfft2(np.stack([there, window]), size)
        best, found = 0.0, Camera()
        for zoom in zooms:
            head = self._draw(white, values, Camera(zoom=zoom)) > 0.5
            sums = np.fft.irfft2(spectra * np.conj(np.fft.rfft2(head, size)), size)
            both, all_of_it = np.roll(sums, farthest, (1, 2))[:, shifts, shifts]
            overlap = both / np.maximum(all_of_it + there.sum() - both, 1)
            if overlap.max() > best:
                best = float(overlap.max())
                down, right = np.unravel_index(overlap.argmax(), overlap.shape)
                found = Camera(
                    zoom=zoom,
                    right=(int(right) - farthest) / side,
                    up=(farthest - int(down)) / side,
                )
        return found, best

    def _project(
        self, values: Mapping[str, float], camera: Camera
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where vertices are in the picture, [V, 2] (right, down, in pixels), how they face the camera, how near."""
        turn = rotation(values[AZIMUTH], values[ELEVATION])
        places = (self._vertices - self._center) @ turn.T
        half_view = np.tan(np.radians(camera.field_of_view) / 2)
        distance = self._radius / half_view
        to_camera = np.array([0, 0, distance]) - places
        scale = camera.zoom * 0.5 * self.image_size / half_view / to_camera[:, 2]
        middle = np.array([0.5 + camera.right, 0.5 - camera.up]) * self.image_size
        on_screen = middle + scale[:, None] * places[:, :2] * (1, -1)
        facing = ((self._normals @ turn.T) * to_camera).sum(1) / np.linalg.norm(to_camera, axis=1)
        depth = places[:, 2] / self._radius / _DEPTHS + 0.5
        return on_screen, facing.astype(np.float32), depth.astype(np.float32)

    def _shade(self, values: Mapping[str, float]) -> np.ndarray:
        """How bright the head's surface is at each vertex; float32 [V]."""
        light = light_direction(values[LIGHT], _SOFT.light_elevation)
        cosines = self._normals @ rotation(values[AZIMUTH], values[ELEVATION]).T @ light
        return (_SOFT.ambient + _SOFT.diffuse * np.maximum(cosines, 0)).astype(np.float32)

    def _draw(
        self,
        brightness: np.ndarray,
        values: Mapping[str, float],
        camera: Camera,
    ) -> np.ndarray:
        """Draws the head with brightness given at its vertices; float32 [S, S]."""
        mesh = Mesh(self._vertices, brightness, self._triangles, self._normals)
        azimuth, elevation, light_azimuth = (np.array([values[factor]]) for factor in _FACTORS)
        drawn = render_meshes(
            [mesh],
            azimuth,
            elevation,
            light_azimuth,
            self.image_size,
            camera,
            _FLAT,
            center=self._center,
            radius=self._radius,
            back_faces=False,
        )
        return drawn[0, ..., 0] / np.float32(255)


def _silhouette(image: np.ndarray) -> np.ndarray:
    """Where an image [S, S] is not black; within each row, from the first such place to the last."""
    bright = image > _black(image) + _DARK
    return np.maximum.accumulate(bright, 1) & np.maximum.accumulate(bright[:, ::-1], 1)[:, ::-1]


def _black(image: np.ndarray) -> float:
    """The background of an image [S, S]; a film's black need not be 0."""
    upper = image[: round(_UPPER * len(image))]
    return float(np.median(np.concatenate([image[0], upper[:, 0], upper[:, -1]])))


def _blur(image: np.ndarray, share: float) -> np.ndarray:
    """An image [S, S], smoothed by a normal distribution that deviates by a share of its side."""
    from scipy import ndimage

    return ndimage.gaussian_filter(image, share * len(image), truncate=3)


def _sample(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """An image's grey values [V] at places [V, 2] (right, down, in pixels)."""
    from scipy import ndimage

    at = (places[:, ::-1] - 0.5).T
    return ndimage.map_coordinates(image, at, np.float32, order=1, mode="nearest")
