"""A trained model, whatever file it is kept in, as functions on arrays."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from dcign_tf import exported, workdirs
from dcign_tf.errors import DcignError
from dcign_tf.model import DCIGN, load_model
from dcign_tf.serving import refusals, signatures

_BATCH = 50


@dataclasses.dataclass(frozen=True)
class Engine:
    """What `open_engine` gives. Images are float32 [N, S, S, 1] in [0, 1], any number of them.

    Attributes:
        image_size: S.
        factor_ranges: for each extrinsic factor, in order, the smallest and the largest value the model knows.
        units: for each extrinsic factor, of its values: `dcign_tf.units`.
        intrinsic: which latents belong to no extrinsic factor; bool [L].
        signatures: the functions of `signatures.signatures`, of this process or of a SavedModel.
        periods: of those factors whose values close and have no ends.
    """

    image_size: int
    factor_ranges: Mapping[str, tuple[float, float]]
    units: Mapping[str, str]
    intrinsic: np.ndarray
    signatures: Mapping[str, Callable[..., Mapping[str, tf.Tensor]]]
    periods: Mapping[str, float] = dataclasses.field(default_factory=dict, kw_only=True)

    def rerender(self, images: np.ndarray, values: Mapping[str, Any]) -> np.ndarray:
        """Renders what the images show with some factors set to other values.

        Args:
            images: float32 [N, S, S, 1].
            values: new values of any of the factors: a number, or [N]; NaN keeps the factor.

        Returns:
            float32 [N, S, S, 1].
        """
        settings = self._settings(values, len(images))
        return self._call("rerender", images=images, **settings)["images"]

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """Encodes and decodes images; float32 [N, S, S, 1]."""
        return self._call("reconstruct", images=images)["images"]

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Reads the extrinsic factors off images; for each factor its value, float32 [N]."""
        return self.encode(images)[1]

    def encode(self, images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The codes of images and what they tell.

        Args:
            images: float32 [N, S, S, 1].

        Returns:
            The posterior's means, float32 [N, L], and for each factor its value, float32 [N].
        """
        encoded = self._call("encode", images=images)
        return encoded["mean"], {factor: encoded[factor] for factor in self.factor_ranges}

    def render(self, codes: np.ndarray, values: Mapping[str, Any]) -> np.ndarray:
        """Renders codes with some factors set to other values.

        Args:
            codes: float32 [N, L].
            values: as in `rerender`.

        Returns:
            float32 [N, S, S, 1].
        """
        edited = self._call("edit", codes=codes, **self._settings(values, len(codes)))["codes"]
        return self._call("decode", codes=edited)["images"]

    def _settings(self, values: Mapping[str, Any], count: int) -> dict[str, np.ndarray]:
        """A value of every factor for each of `count` images; NaN where none is given."""
        return {
            factor: np.broadcast_to(np.asarray(values.get(factor, np.nan), np.float32), count)
            for factor in self.factor_ranges
        }

    def _call(self, name: str, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Calls a signature on a bounded number of images at a time."""
        count = len(next(iter(arrays.values())))
        parts: list[dict[str, np.ndarray]] = []
        for start in range(0, max(count, 1), _BATCH):
            batch = {
                k: tf.constant(v[start : start + _BATCH], tf.float32) for k, v in arrays.items()
            }
            try:
                found = self.signatures[name](**batch)
            except tf.errors.InvalidArgumentError as error:
                raise DcignError(refusals.reason(str(error))) from error
            parts.append({k: v.numpy() for k, v in found.items()})
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def engine_of(model: DCIGN) -> Engine:
    """The engine of a calibrated model in memory.

    Raises:
        DcignError: the model was not calibrated.
    """
    faster = model.for_inference()
    functions = signatures.signatures(faster)
    return _KeepingEngine(
        model.image_size,
        model.factor_ranges,
        dict(model.units),
        model.layout.masks[-1],
        functions,
        faster,
        periods=model.periods,
    )


def open_engine(path: str | os.PathLike[str]) -> Engine:
    """Opens a trained model.

    Args:
        path: a workdir of dcign-train, a `.keras` file, a SavedModel of dcign-export, or a folder
            with versions of one, of which the latest is taken.

    Raises:
        DcignError: there is nothing there, something else, or a model that was not calibrated.
    """
    folder = exported.find(path)
    if folder is not None:
        return _open_saved_model(folder)
    file = workdirs.model_file(path)
    model = load_model(str(file))
    try:
        return engine_of(model)
    except DcignError as error:
        raise DcignError(f"{file}: {error}") from error


def _open_saved_model(folder: pathlib.Path) -> Engine:
    card = exported.read_card(folder)
    try:
        ranges = {
            factor: (float(facts["range"][0]), float(facts["range"][1]))
            for factor, facts in card["factors"].items()
        }
        units = {factor: str(facts["unit"]) for factor, facts in card["factors"].items()}
        periods = {f: float(v["period"]) for f, v in card["factors"].items() if "period" in v}
        size = int(card["image_size"])
        intrinsic = np.ones(int(card["latents"]), bool)
        for facts in card["factors"].values():
            intrinsic[facts["latents"]] = False
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise exported.not_a_card(folder, error) from error
    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:
        # TensorFlow has no one exception for what it cannot read; among them is IndexError.
        detail = (str(error).strip().splitlines() or [repr(error)])[0]
        raise DcignError(f"{folder}: a damaged SavedModel: {detail}") from error
    found = dict(loaded.signatures)
    wanted = {"rerender": "serving_default"}
    wanted |= {name: name for name in ("encode", "edit", "decode", "reconstruct")}
    if missing := set(wanted.values()) - found.keys():
        raise DcignError(
            f"{folder}: not a model that this version's dcign-export made: its signatures are "
            f"{sorted(found)}, without {sorted(missing)}; export it again"
        )
    functions = {name: found[signature] for name, signature in wanted.items()}
    # The object that owns the variables must live as long as the functions that use them.
    return _KeepingEngine(size, ranges, units, intrinsic, functions, loaded, periods=periods)


@dataclasses.dataclass(frozen=True)
class _KeepingEngine(Engine):
    owner: Any
