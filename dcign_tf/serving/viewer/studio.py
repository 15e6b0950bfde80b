"""What the page asks for, as functions on codes: pictures read, faces drawn, rendered, morphed and animated.

Whoever asks holds the codes. All that is kept between two calls is what was found of the last few pictures whose detail
was asked for (`dcign_tf.serving.detail`), in memory, so that a slider does not wait for it.
"""

import contextlib
import dataclasses
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dcign_tf import images, movies
from dcign_tf.errors import DcignError
from dcign_tf.serving import faces
from dcign_tf.serving.detail import Detailed
from dcign_tf.serving.engine import Engine
from dcign_tf.serving.rerender import panel_side
from dcign_tf.serving.signatures import MAX_LATENT
from dcign_tf.units import DEGREES

MAX_PIXELS = 50_000_000
BLEND = "*blend"  # What an animation may sweep besides factors, whose names are words: the way to the other face.
FPS = 20.0

_FRAMES = 41  # From one end to the other.
_LARGEST = 640  # Side, in pixels, of a picture as it is shown.
_GAP = 4
_TURN = 360.0


@dataclasses.dataclass(frozen=True)
class Face:
    """What one model makes of a picture.

    Attributes:
        code: float32 [L].
        values: what it reads off the picture, of each of its factors.
        detail: the picture as the model sees it, float32 [S, S, 1]; None where its detail cannot be kept.
    """

    code: np.ndarray
    values: Mapping[str, float]
    detail: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a model shall render.

    Attributes:
        model: its number.
        code: float32 [L], of a face.
        values: of some factors, to which they are set; the others stay as they are.
        other: the code of a second face to morph into; None for none.
        blend: how far, from 0 (the first face) to 1 (the intrinsic code of the second).
        detail: of the first face, to keep it (`dcign_tf.serving.detail`); None to see what the network itself makes.
    """

    model: int
    code: np.ndarray
    values: Mapping[str, float]
    other: np.ndarray | None = None
    blend: float = 0.0
    detail: np.ndarray | None = None


class Studio:
    """Some models, and pictures to try them on.

    Its functions may be called from any thread; one of them works at a time, so that memory is bounded.

    Args:
        engines: the models, by name.
        samples: pictures to choose from; float [H, W] in [0, 1].
    """

    def __init__(self, engines: Mapping[str, Engine], samples: Sequence[np.ndarray]) -> None:
        self.names = tuple(engines)
        self.engines = tuple(engines.values())
        self.samples = tuple(images.png_bytes(sample) for sample in samples)
        self._lock = threading.Lock()
        self._detailed = [
            Detailed(engine) if engine.units.get("azimuth") == DEGREES else None
            for engine in self.engines
        ]
        self._known = [np.zeros([0, engine.intrinsic.size], np.float32) for engine in self.engines]
        if samples:
            self._known = [
                engine.encode(
                    np.stack([images.fit_square(sample, engine.image_size) for sample in samples])
                )[0]
                for engine in self.engines
            ]

    def warm_up(self) -> None:
        """Does everything once: what is done for the first time takes longer."""
        for number, engine in enumerate(self.engines):
            side = engine.image_size
            codes, _ = engine.encode(np.zeros([1, side, side, 1], np.float32))
            self.render(Scene(number, codes[0], {}))

    def describe(self) -> dict[str, Any]:
        """What the page must know, fit for JSON."""
        return {
            "models": [
                {
                    "name": name,
                    "image_size": engine.image_size,
                    "factors": [
                        {
                            "name": factor,
                            "unit": engine.units[factor],
                            "low": low,
                            "high": high,
                            "period": _period(engine, factor),
                        }
                        for factor, (low, high) in engine.factor_ranges.items()
                    ],
                }
                for name, engine in zip(self.names, self.engines, strict=True)
            ],
            "samples": len(self.samples),
            "random": self.can_draw,
            "faces": faces.available(),
            "formats": ["gif", *(["mp4"] if movies.available() else [])],
        }

    def read(self, data: bytes, photo: bool = False) -> tuple[np.ndarray, list[Face], bool]:
        """Reads a picture with all models.

        Args:
            data: a PNG or JPEG file.
            photo: whether to look for a face, and if there is one, to lay the head before black.

        Returns:
            What is seen of it, float32 [S, S, 1]: its central square, or the head; what each model makes of it; and
            whether a face was looked for and found.

        Raises:
            DcignError: it is something else, damaged, or has more than `MAX_PIXELS` pixels.
        """
        with self._lock:
            grey, found = images.read_image(data, "this picture", MAX_PIXELS), False
            if photo:
                with contextlib.suppress(DcignError):  # No face: then it is taken as it is.
                    grey, found = faces.cut_out(faces.crop(grey, faces.FACE).image), True
            parts = []
            for number, engine in enumerate(self.engines):
                image = images.fit_square(grey, engine.image_size)
                codes, values = engine.encode(image[None])
                detail = image if self._has_detail(number, image) else None
                parts.append(Face(codes[0], {f: float(v[0]) for f, v in values.items()}, detail))
            return images.fit_square(grey, min(*grey.shape, _LARGEST)), parts, found

    def _has_detail(self, number: int, image: np.ndarray) -> bool:
        """Whether a model can keep the detail of an image [S, S, 1]."""
        detailed = self._detailed[number]
        if detailed is None:
            return False
        try:
            detailed.lay(image[None], image[None], {})
        except DcignError:
            return False
        return True

    @property
    def can_draw(self) -> bool:
        """Whether there are pictures enough to `draw` from."""
        return len(self.samples) > 1

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, list[Face]]:
        """Draws an identity that nobody has, as it looks to each model.

        The posterior's means of real pictures lie in a small part of the prior, outside of which nothing looks like a
        face. So the code comes from a normal distribution of the mean and covariance that the samples' codes have.

        Args:
            rng: what decides.

        Returns:
            The first model's picture of it, float32 [S, S, 1], and what each model makes of it: the same
            combination of samples, in its own code.

        Raises:
            DcignError: there are too few samples.
        """
        if not self.can_draw:
            raise DcignError("there are no sample pictures to draw a new face from")
        count = len(self.samples)
        weights = rng.standard_normal(count) / math.sqrt(count - 1)
        parts, pictures = [], []
        with self._lock:
            for engine, known in zip(self.engines, self._known, strict=True):
                mean = known.mean(0)
                code = (mean + weights @ (known - mean)).astype(np.float32)
                picture = engine.render(code[None], {})
                values = engine.infer(picture)
                parts.append(Face(code, {f: float(v[0]) for f, v in values.items()}))
                pictures.append(picture[0])
        return pictures[0], parts

    def render(self, scene: Scene) -> np.ndarray:
        """Renders a scene; float32 [S, S, 1].

        Raises:
            DcignError: the scene makes no sense to its model.
        """
        self._check(scene)
        return self._render(scene, 1, {}, np.array([scene.blend]))[0]

    def animate(self, scenes: Sequence[Scene], factor: str, format_: str) -> bytes:
        """An animation of some scenes side by side in which one factor goes there and back, or once around.

        Args:
            scenes: one or more.
            factor: which factor, or `BLEND`.
            format_: "gif" or "mp4".

        Raises:
            DcignError: a scene makes no sense, no model has the factor, or there is no such format here.
        """
        if format_ not in ("gif", "mp4"):
            raise DcignError(f"format: got {format_!r}, must be gif or mp4")
        for scene in scenes:
            self._check(scene)
        around, path = self._path(scenes, factor)
        side = max(panel_side(self.engines[scene.model].image_size) for scene in scenes)
        columns = []
        for scene in scenes:
            known = factor in self.engines[scene.model].factor_ranges
            values = {factor: path} if known else {}
            blends = path if factor == BLEND else np.full(len(path), scene.blend)
            frames = self._render(scene, len(path), values, blends)
            columns.append(
                np.stack([images.to_bytes(images.resize(f[..., 0], side)) for f in frames])
            )
        gap = np.zeros([len(path), side, _GAP], np.uint8)
        parts = [part for column in columns for part in (gap, column)][1:]
        frames = np.concatenate(parts, axis=2)
        if not around:
            frames = np.concatenate([frames, frames[-2:0:-1]])
        if format_ == "mp4":
            return movies.mp4_bytes(frames, FPS)
        return images.gif_bytes(list(frames), FPS)

    def _path(self, scenes: Sequence[Scene], factor: str) -> tuple[bool, np.ndarray]:
        """Whether a sweep of a factor ends where it began, and the values it goes through."""
        if factor == BLEND:
            if all(scene.other is None for scene in scenes):
                raise DcignError("blend: there is no second face to morph into")
            return False, np.linspace(0, 1, _FRAMES)
        engines = [self.engines[scene.model] for scene in scenes]
        ranges = [e.factor_ranges[factor] for e in engines if factor in e.factor_ranges]
        if not ranges:
            raise DcignError(f"factor: got {factor!r}, which no model here has")
        low = min(low for low, _ in ranges)
        period = next(_period(e, factor) for e in engines if factor in e.factor_ranges)
        if period:
            return True, low + period * np.arange(2 * _FRAMES) / (2 * _FRAMES)
        return False, np.linspace(low, max(high for _, high in ranges), _FRAMES)

    def _check(self, scene: Scene) -> None:
        if not 0 <= scene.model < len(self.engines):
            raise DcignError(f"model: got {scene.model}, must be 0 to {len(self.engines) - 1}")
        engine = self.engines[scene.model]
        for name, code in (("code", scene.code), ("other", scene.other)):
            if code is None:
                continue
            if code.shape != engine.intrinsic.shape:
                raise DcignError(
                    f"{name}: got {code.size} numbers, this model's code has {engine.intrinsic.size}"
                )
            if not (np.abs(code) <= MAX_LATENT).all():  # Nor is it NaN.
                raise DcignError(f"{name}: has numbers that are not finite, or huge")
        for factor, value in scene.values.items():
            if factor not in engine.factor_ranges:
                raise DcignError(
                    f"values: {factor!r} is not a factor of this model; it has "
                    f"{', '.join(engine.factor_ranges)}"
                )
            if not math.isfinite(value):
                raise DcignError(f"values: {factor} is {value}, must be finite")
        if scene.detail is not None:
            side = engine.image_size
            if scene.detail.shape != (side, side, 1):
                height, width = scene.detail.shape[:2]
                raise DcignError(
                    f"detail: got a picture of {width} x {height} pixels, this model's have {side} x {side}"
                )
            if self._detailed[scene.model] is None:
                raise DcignError("detail: this model is not one of heads that turn")
        if not 0 <= scene.blend <= 1:
            raise DcignError(f"blend: got {scene.blend}, must be 0 to 1")

    def _render(
        self, scene: Scene, count: int, swept: Mapping[str, Any], blends: np.ndarray
    ) -> np.ndarray:
        """`count` images of a scene, with values and blends that may differ; float32 [count, S, S, 1]."""
        engine = self.engines[scene.model]
        codes = np.repeat(scene.code[None], count, axis=0)
        if scene.other is not None:
            way = np.where(engine.intrinsic, scene.other - scene.code, 0)
            codes = codes + blends[:, None] * way
        # What lies outside of a model's range is shown as the nearest that it knows: another's may be wider.
        values = {
            factor: np.clip(value, *engine.factor_ranges[factor])
            for factor, value in {**scene.values, **swept}.items()
        }
        with self._lock:
            rendered = engine.render(codes.astype(np.float32), values)
            detailed = self._detailed[scene.model]
            if scene.detail is None or detailed is None:
                return rendered
            kept = detailed.lay(np.repeat(scene.detail[None], count, axis=0), rendered, values)
            # The second face has none.
            share = (1 - blends if scene.other is not None else np.ones(count))[:, None, None, None]
            return (share * kept + (1 - share) * rendered).astype(np.float32)


def _period(engine: Engine, factor: str) -> float | None:
    """After how much a factor closes: angles that go all the way around do."""
    low, high = engine.factor_ranges[factor]
    closes = engine.units[factor] == DEGREES and abs(high - low - _TURN) < 1e-3 * _TURN
    return _TURN if closes else None
