"""Random scenes in groups of which exactly one factor varies (section 3.1 of the paper), and their images.

A group is a pure function of the configuration, the split, the factor and the group's index: each has a random
stream of its own, so any group can be made alone, in any order, by any process, and always is the same.
"""

import dataclasses
import hashlib
import itertools
import math
import numbers
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np

from dcign_tf.errors import UsageError
from dcign_tf.scenes import load_source, photography
from dcign_tf.scenes.morphable import MorphableModel
from dcign_tf.scenes.render import Camera, Shading, Take, render
from dcign_tf.units import DEGREES

# The scene's factors; the last one is all the rest: shape, texture and expression.
FACTORS = ("azimuth", "elevation", "light_azimuth", "intrinsic")
EXTRINSIC = FACTORS[:-1]
# Groups in which everything varies at once.
MIXED = "mixed"
SPLITS = ("train", "validation", "test")

# The keys of the random streams. Numbers of their own, so that a new name never changes what an old one draws.
_SPLIT_STREAMS = {"train": 0, "validation": 1, "test": 2}
_FACTOR_STREAMS = {"azimuth": 0, "elevation": 1, "light_azimuth": 2, "intrinsic": 3, MIXED: 4}
# Not of groups, but of single identities, where there is a fixed number of them.
IDENTITY = "identity"
_STREAMS = {**_FACTOR_STREAMS, IDENTITY: 5}

OFF = "off"
# What photographs vary, and therefore nobody can set as well.
_VARIED = ("ambient", "diffuse", "specular", "light_elevation", "background")
_LIMITS = {"azimuth_range": 180.0, "elevation_range": 90.0, "light_range": 180.0}


class Config:
    """What makes a frozen dataclass of settings JSON, and JSON such a dataclass."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        fields = {name: getattr(self, name) for name in typing.get_type_hints(type(self))}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of `to_dict`; fields that are not there have their defaults.

        Raises:
            ValueError: a field is unknown or of the wrong type.
            UsageError: a value is impossible.
        """
        hints = typing.get_type_hints(cls)
        for name, value in values.items():
            if name not in hints:
                raise ValueError(f"{name}: no such setting; there are {', '.join(hints)}")
            if not _is_a(value, hints[name]):
                raise ValueError(f"{name}: got {value!r}, of the wrong type")
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**fields)


def _is_a(value: Any, hint: Any) -> bool:
    """Whether a value read from JSON fits a field's type: str, int, float, a tuple of them, or str | None."""
    if isinstance(hint, types.UnionType):
        return any(_is_a(value, option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        each = typing.get_args(hint)
        return (
            isinstance(value, list | tuple)
            and len(value) == len(each)
            and all(map(_is_a, value, each))
        )
    if isinstance(value, bool):  # To Python, but not to us, a number.
        return False
    if hint is float:
        return isinstance(value, numbers.Real) and math.isfinite(value)
    return isinstance(value, hint)


@dataclasses.dataclass(frozen=True)
class SceneConfig(Config):
    """All that the images of a data set depend on, besides how many there are.

    Attributes:
        source: which morphable model, a key of `dcign_tf.scenes.SOURCES`.
        source_path: where its files are; None for a source without files.
        image_size: height and width in pixels.
        group_size: images in a group.
        azimuth_range: lowest and highest azimuth in degrees.
        elevation_range: lowest and highest elevation in degrees.
        light_range: lowest and highest azimuth of the light in degrees.
        seed: of all that is random.
        field_of_view: see `Camera`, in degrees.
        zoom: see `Camera`.
        supersample: samples per pixel along each axis.
        ambient: this and the following, see `Shading`.
        diffuse: Lambertian reflection.
        specular: strength of the highlight.
        shininess: exponent of the highlight.
        light_elevation: height of the light, in degrees.
        background: grey value behind the head.
        photographic: whether light, film and framing vary with the identity, as in photographs, before black: "plain";
            or the background, too, and clothes: "full" (`dcign_tf.scenes.photography`); or "off".

    Raises:
        UsageError: a value is impossible; the message names the flag.
    """

    source: str = "builtin_face"
    source_path: str | None = None
    image_size: int = 150
    group_size: int = 20
    azimuth_range: tuple[float, float] = (-90.0, 90.0)
    elevation_range: tuple[float, float] = (-25.0, 25.0)
    light_range: tuple[float, float] = (-80.0, 80.0)
    seed: int = 0
    field_of_view: float = Camera.field_of_view
    zoom: float = Camera.zoom
    supersample: int = 2
    ambient: float = Shading.ambient
    diffuse: float = Shading.diffuse
    specular: float = Shading.specular
    shininess: float = Shading.shininess
    light_elevation: float = Shading.light_elevation
    background: float = Shading.background
    photographic: str = OFF

    def __post_init__(self) -> None:
        for name, low, high in (
            ("image_size", 1, 4096),
            ("group_size", 2, 10_000),
            ("seed", 0, 2**63 - 1),
            ("supersample", 1, 16),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"--{name}: got {value}, must be {low} to {high}")
        for name, limit in _LIMITS.items():
            low_angle, high_angle = getattr(self, name)
            if not -limit <= low_angle < high_angle <= limit:
                raise UsageError(
                    f"--{name}: got {low_angle:g},{high_angle:g}; must be two angles in degrees, "
                    f"the lower one first, from -{limit:g} to {limit:g}"
                )
            object.__setattr__(self, name, (float(low_angle), float(high_angle)))
        if self.photographic not in (OFF, photography.PLAIN, photography.FULL):
            raise UsageError(
                f"--photographic: got {self.photographic!r}, must be {OFF}, {photography.PLAIN} or {photography.FULL}"
            )
        for name in _VARIED if self.photographic != OFF else ():
            value, usual = getattr(self, name), getattr(Shading, name)
            if value != usual:
                raise UsageError(
                    f"--{name}: got {value:g}, but it is random with --photographic={self.photographic}; leave it out"
                )
        try:
            self.camera, self.shading  # noqa: B018 - made for the checks of their own.
        except ValueError as error:
            raise UsageError(f"--{error}") from error

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them.

        What came with later versions is left out where it is not used: the manifests of data sets that do without
        are what they were.
        """
        fields = super().to_dict()
        if self.photographic == OFF:
            del fields["photographic"]
        return fields

    @property
    def camera(self) -> Camera:
        """Position and lens."""
        return Camera(self.field_of_view, self.zoom)

    @property
    def shading(self) -> Shading:
        """The light's and the surface's constants."""
        fields = (field.name for field in dataclasses.fields(Shading))
        return Shading(**{name: getattr(self, name) for name in fields})

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of each extrinsic factor, in degrees."""
        ranges = (self.azimuth_range, self.elevation_range, self.light_range)
        return dict(zip(EXTRINSIC, ranges, strict=True))


def random_stream(
    seed: int, split: str, factor: str, index: int, variant: int = 0
) -> np.random.Generator:
    """The random numbers of one group; see `SceneSampler.draw` for the arguments.

    Raises:
        ValueError: there is no such split or factor, or a number is out of range.
    """
    if split not in _SPLIT_STREAMS:
        raise ValueError(f"split: got {split!r}, must be one of {', '.join(SPLITS)}")
    if factor not in _STREAMS:
        raise ValueError(f"factor: got {factor!r}, must be one of {', '.join(_FACTOR_STREAMS)}")
    if not 0 <= index < 2**62 or not 0 <= variant < 2**63:
        raise ValueError(f"index, variant: got {index}, {variant}; must be 0 or more, below 2**62")
    # Every part has a fixed number of 32-bit words, or two groups could have one key.
    parts = (variant >> 32, variant & 0xFFFFFFFF, index >> 32, index & 0xFFFFFFFF)
    key = (_SPLIT_STREAMS[split], _STREAMS[factor], *parts)
    sequence = np.random.SeedSequence(seed, spawn_key=key)
    return np.random.Generator(np.random.Philox(sequence))


class Group(NamedTuple):
    """Images of one group and what they show.

    Attributes:
        images: uint8 [B, S, S, 1].
        values: float32 [B, E], of each extrinsic factor, of rendered ones azimuth, elevation and light azimuth in
            degrees; NaN where nobody knows it.
        coefficients: float32 [B, K], the identities, in standard deviations of the model's modes, and for
            photographs the numbers of `photography.NUMBERS`; K is 0 where nothing describes them.
    """

    images: np.ndarray
    values: np.ndarray
    coefficients: np.ndarray


class SceneSampler:
    """Draws groups of scenes and renders them; implements `rendering.GroupMaker`.

        sampler = SceneSampler(SceneConfig(image_size=70))
        group = sampler.group("train", "azimuth", 17)

    Splits never share an identity: theirs come from different random streams.

    Args:
        config: what to draw from.
        model: the morphable model, where the caller has it loaded already; otherwise `config` says which to load.

    Raises:
        DcignError: the model cannot be loaded.
    """

    def __init__(self, config: SceneConfig, model: MorphableModel | None = None) -> None:
        self.config = config
        photographic = config.photographic != OFF
        self.model = model or load_source(config.source, config.source_path, photographic)
        self.source = self.model.source
        self.image_size = config.image_size
        self.group_size = config.group_size
        self.factors = FACTORS
        self.ranges = config.ranges
        self.units = dict.fromkeys(EXTRINSIC, DEGREES)
        # No range reaches around.
        self.periods: dict[str, float] = {}
        self.coefficients = self.model.coefficients
        if photographic:
            self.coefficients += len(photography.NUMBERS)
        self.notes: tuple[str, ...] = ()
        self.work = "rendering"

    @property
    def settings(self) -> dict[str, Any]:
        """See `rendering.GroupMaker`."""
        return {**self.config.to_dict(), "model_sha256": fingerprint(self.model)}

    def available(self, split: str, factor: str, wanted: int) -> int:
        """See `rendering.GroupMaker`; scenes never run out."""
        del split, factor
        return wanted

    def draw(
        self, split: str, factor: str, index: int, variant: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws the scenes of a group without rendering them.

        Args:
            split: "train", "validation" or "test".
            factor: which factor varies, one of `FACTORS`, or "mixed" for all of them.
            index: the group's number, 0 or more.
            variant: other numbers than 0 give other groups, for callers that need many streams of their own.

        Returns:
            degrees: float32 [B, 3], azimuth, elevation and light azimuth.
            coefficients: float32 [B, K].
        """
        rng = random_stream(self.config.seed, split, factor, index, variant)
        size = self.config.group_size
        low, high = np.array(list(self.config.ranges.values())).T
        shared = rng.uniform(low, high)
        each = rng.uniform(low, high, (size, len(EXTRINSIC)))
        varies = np.array([factor in (name, MIXED) for name in EXTRINSIC])
        degrees = np.where(varies, each, shared).astype(np.float32)
        identities = size if factor in (FACTORS[-1], MIXED) else 1
        coefficients = self.model.draw(rng, identities)
        if self.config.photographic != OFF:
            taken = photography.draw(rng, identities)
            coefficients = np.concatenate([coefficients, taken], axis=1)
        coefficients = np.repeat(coefficients, size // identities, axis=0)
        return degrees, coefficients.astype(np.float32)

    def group(self, split: str, factor: str, index: int, variant: int = 0) -> Group:
        """Draws and renders a group; arguments as for `draw`."""
        degrees, coefficients = self.draw(split, factor, index, variant)
        config = self.config
        takes: list[Take] | None = None
        if config.photographic != OFF:
            takes = []
            numbers = coefficients[:, self.model.coefficients :]
            for _, same in itertools.groupby(numbers, key=bytes):
                one, *more = same
                take = photography.take(
                    one, config.image_size, config.camera, config.shading, config.photographic
                )
                takes += [take] * (1 + len(more))
        images = render(
            self.model,
            coefficients[:, : self.model.coefficients],
            degrees[:, 0],
            degrees[:, 1],
            degrees[:, 2],
            config.image_size,
            config.camera,
            config.shading,
            config.supersample,
            takes=takes,
        )
        return Group(images, degrees, coefficients)


def fingerprint(model: MorphableModel) -> str:
    """SHA-256 of all numbers of a model: two models of one name need not be the same."""
    digest = hashlib.sha256()
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        if isinstance(value, np.ndarray):
            digest.update(f"{field.name} {value.dtype} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).data)
        elif field.name == "radius":
            digest.update(repr(float(value)).encode())
    return digest.hexdigest()
