"""What the latents of a network mean, trained by the paper's procedure or not."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dcign_tf.calibration import Calibration
from dcign_tf.code import on_circles, told
from dcign_tf.datasets.source import GroupSource
from dcign_tf.errors import DcignError
from dcign_tf.model import DCIGN
from dcign_tf.units import LATENT

# How many training images find and calibrate the latents of a network that was not trained to have them.
_GROUPS = 10
_CALIBRATION_IMAGES = 1000

Advance = Callable[[int], Any]


def _stay(images: int) -> None:
    del images


class Interpretation:
    """A network, which of its latents tells each extrinsic factor, and that latent's curves to true values and back.

    Args:
        model: the network.
        places: for each extrinsic factor its latent, or the two that are its direction.
        calibration: the latents' curves; fitted.
        units: for each extrinsic factor, of its values.

    Attributes:
        model: the network.
        places: for each extrinsic factor its latent, or the two that are its direction.
        units: for each extrinsic factor, of its values.
        advance: called with a number of images whenever as many were encoded or decoded.
    """

    def __init__(
        self,
        model: DCIGN,
        places: Mapping[str, Sequence[int]],
        calibration: Calibration,
        units: Mapping[str, str],
    ) -> None:
        self.model = model
        self.places = {f: tuple(int(index) for index in latents) for f, latents in places.items()}
        self.units = dict(units)
        self.advance: Advance = _stay
        self._calibration = calibration
        # Of large images few at a time: the first convolution's output of one takes megabytes.
        self._batch = int(np.clip(500_000 // model.image_size**2, 8, 100))
        side = model.image_size
        self._encode = tf.function(
            lambda images: model.encode(images)[0],
            input_signature=[tf.TensorSpec([None, side, side, 1], tf.uint8)],
        )
        self._decode = tf.function(
            model.decode, input_signature=[tf.TensorSpec([None, model.layout.latents], tf.float32)]
        )

    @classmethod
    def of(cls, model: DCIGN, source: GroupSource) -> "Interpretation":
        """Interprets a network.

        One trained by the paper's procedure, or another that is told the factors, has its layout and its own
        calibration. In one that was not told, such as plain SGVB's, the latent of a factor is the one that varies most
        over training groups in which that factor varies (section 4.1.1), calibrated on training images as the other's
        is.

        Args:
            model: the network.
            source: its data.

        Raises:
            DcignError: the network was not calibrated, or is not one for images or factors like the source's.
        """
        check_fit(model, source)
        if model.settings.names_latents:
            if not model.calibrated:
                raise DcignError(
                    "the model was not calibrated, so it knows no values of factors: finish its training (dcign-train "
                    "calibrates at the end) or call calibrate()"
                )
            places = {f: model.layout.indices(f).tolist() for f in model.layout.extrinsic}
            return cls(model, places, model.calibration, model.units)
        reading = cls(model, {}, Calibration(model.layout.extrinsic), source.units)
        for factor in model.layout.extrinsic:
            images = source.groups("train", factor, _GROUPS).images
            reading.places[factor] = (most_variable_latent(reading.encode(images)),)
        mixed = source.mixed("train", _CALIBRATION_IMAGES)
        codes = reading.encode(mixed.images)
        latents = {factor: reading.latent(codes, factor) for factor in reading.places}
        try:
            unknown = reading._calibration.fit(latents, mixed.values)
        except ValueError as error:
            raise DcignError(f"the entangled network cannot be calibrated: {error}") from error
        reading.units.update(dict.fromkeys(unknown, LATENT))
        return reading

    def encode(self, images: np.ndarray) -> np.ndarray:
        """The posterior's means of images, uint8 [..., S, S, 1], as the decoder sees them; float32 [..., L].

        Pairs of latents that are a direction have the length 1.
        """
        leading, side = images.shape[:-3], self.model.image_size
        flat = images.reshape(-1, side, side, 1)
        codes = np.empty([len(flat), self.model.layout.latents], np.float32)
        for first in range(0, len(flat), self._batch):
            some = flat[first : first + self._batch]
            codes[first : first + len(some)] = self._encode(some).numpy()
            self.advance(len(some))
        layout = self.model.layout
        codes = on_circles(codes, [layout.indices(f).tolist() for f in layout.circular])
        return codes.reshape(*leading, -1)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The pictures of codes [N, L]; float32 [N, S, S, 1] in [0, 1]."""
        side = self.model.image_size
        images = np.empty([len(codes), side, side, 1], np.float32)
        for first in range(0, len(codes), self._batch):
            some = codes[first : first + self._batch]
            images[first : first + len(some)] = self._decode(some).numpy()
            self.advance(len(some))
        return images

    def squared_errors(self, codes: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Mean squared difference of each code's picture and an image, on [0, 1].

        Args:
            codes: float32 [N, L].
            images: uint8 [N, S, S, 1].

        Returns:
            float64 [N].
        """
        errors = np.empty(len(codes))
        # A bounded number at a time: thousands of pictures as floats take gigabytes.
        for first in range(0, len(codes), self._batch):
            part = slice(first, first + self._batch)
            difference = self.decode(codes[part]) - images[part] / np.float32(255)
            errors[part] = np.square(difference, dtype=np.float64).mean(axis=(1, 2, 3))
        return errors

    def infer(self, codes: np.ndarray) -> dict[str, np.ndarray]:
        """What codes [N, L] tell of each extrinsic factor; its values, float32 [N]."""
        return {
            factor: self._calibration.value_of(factor, self.latent(codes, factor)).numpy()
            for factor in self.places
        }

    def latent(self, codes: np.ndarray, factor: str) -> np.ndarray:
        """What tells a factor in codes [..., L]: its latent, or its direction's angle in radians; [...]."""
        return told(codes, self.places[factor])

    def numbers(self, codes: np.ndarray) -> np.ndarray:
        """Codes [N, L] for those who count latents: a direction's angle in its first, and nothing in its second."""
        codes = codes.copy()
        for first, *second in self.places.values():
            if second:
                codes[:, first], codes[:, second] = told(codes, [first, *second]), 0
        return codes

    def edit(self, codes: np.ndarray, factor: str, values: Any) -> np.ndarray:
        """Codes [N, L] with a factor set to other values: a number or [N]."""
        edited = codes.copy()
        latents = self._calibration.latent_of(factor, values).numpy()
        first, *second = self.places[factor]
        edited[:, first] = np.cos(latents) if second else latents
        edited[:, second] = np.sin(latents)[..., np.newaxis]
        return edited

    def range(self, factor: str) -> tuple[float, float]:
        """The smallest and the largest value the factor's latent was calibrated on."""
        return self._calibration.range(factor)

    def latents(self, factor: str) -> np.ndarray:
        """The latents that hold a factor; the intrinsic one has what the others leave; int [n]."""
        if factor in self.places:
            return np.array(self.places[factor])
        others = np.arange(self.model.layout.latents)
        return np.setdiff1d(others, [index for place in self.places.values() for index in place])


def most_variable_latent(group_codes: np.ndarray) -> int:
    """The latent with the largest variance within groups of codes [n, B, L]."""
    return int(group_codes.var(axis=1).mean(axis=0).argmax())


def check_fit(model: DCIGN, source: GroupSource, name: str = "the model") -> None:
    """Raises DcignError unless the network, called `name`, is one for images and factors like the source's."""
    if model.image_size != source.image_size:
        raise DcignError(
            f"{name} takes images of {model.image_size} x {model.image_size} pixels, the data's have "
            f"{source.image_size} x {source.image_size}"
        )
    if tuple(model.layout.factors) != tuple(source.factors):
        raise DcignError(
            f"{name}'s factors are {', '.join(model.layout.factors)}; the data's are {', '.join(source.factors)}"
        )
