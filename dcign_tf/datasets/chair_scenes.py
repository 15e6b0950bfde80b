"""Groups of built-in chairs, seen as those of section 4.2 of the paper are.

Aubry et al. (2014) rendered each chair from 30 azimuths all around, at two elevations, before white. There is a fixed
number of chairs in each split, too; a group is a pure function of the configuration and its arguments.
"""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dcign_tf.datasets.scenes import IDENTITY, MIXED, SPLITS, Config, Group, random_stream
from dcign_tf.errors import UsageError
from dcign_tf.scenes import builtin_chair
from dcign_tf.scenes.builtin_chair import Chair
from dcign_tf.scenes.render import Camera, Mesh, Shading, render_meshes

SOURCE = "builtin_chairs"
FACTORS = ("azimuth", "intrinsic")
AZIMUTHS = np.arange(30) * 12.0
# Of the camera above the ground. `render_meshes` counts upward what shows things from below.
ELEVATIONS = np.array([20.0, 30.0])

_CAMERA = Camera()
# One light for all images, above the camera and to its right. No chair is as bright as the background.
_SHADING = Shading(ambient=0.4, diffuse=0.7, specular=0.05, light_elevation=50.0, background=1.0)
_LIGHT_AZIMUTH = 30.0
# In perspective, the unit sphere, which chairs fit in, looks larger than its radius; and a margin around it.
_RADIUS = 1.06 / math.cos(math.radians(_CAMERA.field_of_view / 2))


@dataclasses.dataclass(frozen=True)
class ChairConfig(Config):
    """All that the images of built-in chairs depend on.

    Attributes:
        image_size: height and width in pixels.
        group_size: images in a group.
        split: how many chairs there are for training, validation and test.
        seed: of all that is random.
        supersample: samples per pixel along each axis.
        source: always the same.

    Raises:
        UsageError: a value is impossible; the message names the flag.
    """

    image_size: int = 150
    group_size: int = 20
    split: tuple[int, int, int] = (1200, 50, 150)
    seed: int = 0
    supersample: int = 2
    source: str = SOURCE

    def __post_init__(self) -> None:
        for name, low, high in (
            ("image_size", 1, 4096),
            (
                "group_size",
                2,
                len(AZIMUTHS),
            ),  # There are no more images of one chair at one elevation.
            ("seed", 0, 2**63 - 1),
            ("supersample", 1, 16),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"--{name}: got {value}, must be {low} to {high}")
        numbers = tuple(self.split)
        if len(numbers) != len(SPLITS) or not all(
            isinstance(n, int) and 2 <= n <= 10**6 for n in numbers
        ):
            raise UsageError(
                f"--split: got {','.join(map(str, numbers))}; must be three whole numbers of chairs, for training, "
                "validation and test, from 2 to 1000000"
            )
        object.__setattr__(self, "split", numbers)
        if self.source != SOURCE:
            raise UsageError(f"--source: got {self.source!r}, must be {SOURCE}")


class ChairSampler:
    """Draws groups of built-in chairs and renders them; implements `rendering.GroupMaker`.

        sampler = ChairSampler(ChairConfig(image_size=70))
        group = sampler.group("train", "azimuth", 17)

    In an azimuth group one chair is seen at one elevation from different azimuths. In an intrinsic group one azimuth
    shows many chairs, at either elevation. Splits never share a chair.

    Args:
        config: what to draw from.
    """

    source = "built-in chairs, made by code of dcign_tf (MIT licence); no models or pictures of chairs went into them"
    factors = FACTORS
    ranges = {"azimuth": (float(AZIMUTHS[0]), float(AZIMUTHS[-1]))}  # noqa: RUF012 - nobody changes it
    units = {"azimuth": "degrees"}  # noqa: RUF012
    periods = {"azimuth": 360.0}  # noqa: RUF012
    coefficients = len(builtin_chair.PARAMETERS)
    notes: tuple[str, ...] = ()
    work = "rendering"

    def __init__(self, config: ChairConfig) -> None:
        self.config = config
        self.image_size = config.image_size
        self.group_size = config.group_size

    @property
    def settings(self) -> dict[str, Any]:
        """See `rendering.GroupMaker`."""
        return {**self.config.to_dict(), "model_sha256": _fingerprint(self.config.seed)}

    def available(self, split: str, factor: str, wanted: int) -> int:
        """See `rendering.GroupMaker`; the choices of chairs and azimuths never run out."""
        del split, factor
        return wanted

    def draw(
        self, split: str, factor: str, index: int, variant: int = 0
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draws the scenes of a group without rendering them.

        Args:
            split: "train", "validation" or "test".
            factor: which factor varies, one of `FACTORS`, or "mixed" for both.
            index: the group's number, 0 or more.
            variant: other numbers than 0 give other groups.

        Returns:
            azimuths: float64 [B], degrees, some of `AZIMUTHS`.
            elevations: float64 [B], degrees, of the camera above the ground, some of `ELEVATIONS`.
            chairs: int64 [B], numbers of the split's chairs.

        Raises:
            ValueError: an argument is impossible.
        """
        if factor not in (*FACTORS, MIXED):
            raise ValueError(
                f"factor: got {factor!r}, must be one of {', '.join((*FACTORS, MIXED))}"
            )
        rng = random_stream(self.config.seed, split, factor, index, variant)
        size = self.config.group_size
        there = self.config.split[SPLITS.index(split)]
        if factor == FACTORS[0]:
            azimuths = rng.choice(AZIMUTHS, size, replace=False)
            elevations = np.full(size, rng.choice(ELEVATIONS))
            chairs = np.full(size, rng.integers(there))
        else:
            azimuths = rng.choice(AZIMUTHS, size)
            if factor != MIXED:
                azimuths[:] = azimuths[0]
            elevations = rng.choice(ELEVATIONS, size)
            # A small split has fewer chairs than a group has images.
            chairs = rng.choice(there, size, replace=there < size)
        return azimuths, elevations, chairs

    def chair(self, split: str, number: int) -> Chair:
        """The parameters of one of a split's chairs."""
        return builtin_chair.draw(random_stream(self.config.seed, split, IDENTITY, number))

    def group(self, split: str, factor: str, index: int, variant: int = 0) -> Group:
        """Draws and renders a group; arguments as for `draw`."""
        azimuths, elevations, chairs = self.draw(split, factor, index, variant)
        made = [_made(self.config.seed, split, int(number)) for number in chairs]
        images = self.render([chair for _, chair in made], azimuths, elevations)
        coefficients = np.stack([values for values, _ in made])
        return Group(images, azimuths[:, None].astype(np.float32), coefficients)

    def render(
        self, chairs: Sequence[Mesh], azimuths: np.ndarray, elevations: np.ndarray
    ) -> np.ndarray:
        """Renders images of chairs in the data set's light, before its background.

        Args:
            chairs: N meshes.
            azimuths: [N], degrees.
            elevations: [N], degrees, of the camera above the ground.

        Returns:
            uint8 [N, image_size, image_size, 1].
        """
        return render_meshes(
            chairs,
            azimuths,
            -np.asarray(elevations),
            np.full(len(chairs), _LIGHT_AZIMUTH),
            self.config.image_size,
            _CAMERA,
            _SHADING,
            self.config.supersample,
            radius=_RADIUS,
            back_faces=False,  # All parts are closed.
        )


@functools.cache
def _fingerprint(seed: int) -> str:
    """SHA-256 of a few chairs: another version of this package may make others of the same parameters."""
    digest = hashlib.sha256()
    for number in range(16):
        values, mesh = _made(seed, SPLITS[0], number)
        for array in (values, mesh.vertices, mesh.albedo, mesh.triangles):
            digest.update(array.tobytes())
    return digest.hexdigest()


# Making a chair takes as long as rendering ten images of it, and each has many. Some 200 kilobytes each.
@functools.lru_cache(maxsize=2048)
def _made(seed: int, split: str, number: int) -> tuple[np.ndarray, Mesh]:
    chair = builtin_chair.draw(random_stream(seed, split, IDENTITY, number))
    return chair.values, builtin_chair.mesh(chair)
