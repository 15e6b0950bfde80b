"""From latents to true values and back: a monotone curve for each extrinsic factor, stored with the model.

Training never sees a value; it makes one latent follow each extrinsic factor, in units of its own and more or
less bent (Fig. 6 of the paper). The curves are fitted afterwards on training images with known factors.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import scipy.optimize
import tensorflow as tf

KNOTS = 33


def fit_monotone(x: np.ndarray, y: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """The monotone curve nearest to points in the least-squares sense, rising or falling as they do.

    Args:
        x: [N], where the points lie.
        y: [N], their values.
        knots: [K], rising; where to evaluate the curve.

    Returns:
        float64 [K], strictly monotone: flat stretches get a slope of about 1e-6 of the curve's span.
    """
    order = np.argsort(x, kind="stable")
    x, y = np.asarray(x, np.float64)[order], np.asarray(y, np.float64)[order]
    rising = bool(np.cov(x, y)[0, 1] >= 0)
    steps = scipy.optimize.isotonic_regression(y, increasing=rising).x
    # Isotonic regression gives stairs, which would make many different latents the same angle. Means over
    # neighborhoods, of points and then of knots, are smooth and still monotone.
    edges = np.concatenate([[-np.inf], (knots[1:] + knots[:-1]) / 2, [np.inf]])
    first, last = np.searchsorted(x, edges[:-1]), np.searchsorted(x, edges[1:])
    filled = last > first
    means = [steps[a:b].mean() for a, b in zip(first[filled], last[filled], strict=True)]
    centers = [x[a:b].mean() for a, b in zip(first[filled], last[filled], strict=True)]
    curve = _smooth(_extrapolating_interpolation(knots, np.array(centers), np.array(means)))
    slope = np.linspace(0, max(float(np.ptp(curve)), 1e-6) * 1e-6 * len(knots), len(knots))
    return curve + (slope if rising else -slope)


def _smooth(curve: np.ndarray, times: int = 3) -> np.ndarray:
    """Means of neighbors with weights 1/4, 1/2, 1/4; the ends are prolonged by their mirror images, so they stay."""
    for _ in range(times):
        padded = np.concatenate([[2 * curve[0] - curve[1]], curve, [2 * curve[-1] - curve[-2]]])
        curve = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    return curve


def _extrapolating_interpolation(at: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Piecewise linear through (x, y), the outer pieces prolonged: a bin's mean lies inside of its edge knot."""
    result = np.interp(at, x, y)
    if len(x) > 1:
        low, high = at < x[0], at > x[-1]
        result[low] = y[0] + (at[low] - x[0]) * (y[1] - y[0]) / (x[1] - x[0])
        result[high] = y[-1] + (at[high] - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2])
    return result


@keras.saving.register_keras_serializable("dcign_tf")
class Calibration(keras.layers.Layer):
    """The curves of all extrinsic factors, as weights, so that every form of saving keeps them.

    Two curves for each factor, since regression is not symmetric: `latent_of` is the mean latent at a given
    value, what re-rendering needs; `value_of` the mean value at a given latent, the better inference. Values are in
    the factor's own unit, degrees for angles.

    Args:
        factors: names of the extrinsic factors.
    """

    def __init__(self, factors: tuple[str, ...] | list[str], **kwargs: Any) -> None:
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.factors = tuple(factors)

        # Their names are older than factors that are no angles.
        def table(name: str) -> Any:
            shape = (len(self.factors), KNOTS)
            return self.add_weight(shape=shape, initializer="zeros", trainable=False, name=name)

        self.render_degrees = table("render_degrees")
        self.render_latents = table("render_latents")
        self.infer_latents = table("infer_latents")
        self.infer_degrees = table("infer_degrees")
        self.fitted = self.add_weight(
            shape=(), initializer="zeros", dtype="float32", trainable=False, name="fitted"
        )
        self.built = True

    def fit(
        self, latents: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> tuple[str, ...]:
        """Fits all curves.

        Args:
            latents: for each extrinsic factor, its latent's mean on N images; [N].
            values: for each extrinsic factor, its true value in those images, [N]; NaN where nobody knows it.

        Returns:
            The factors of which no value is known; for these, the latent itself stands for it.

        Raises:
            ValueError: a factor is missing, has some values but fewer than 2 * KNOTS, values that are not finite or
                all equal.
        """
        tables = []
        unknown = []
        for factor in self.factors:
            if factor not in latents or factor not in values:
                raise ValueError(f"{factor}: calibration needs its latents and its true values")
            z = np.asarray(latents[factor], np.float64)
            true = np.asarray(values[factor], np.float64)
            if z.shape != true.shape or z.ndim != 1:
                raise ValueError(f"{factor}: got latents {z.shape} and true values {true.shape}")
            known = ~np.isnan(true)
            if not known.any():
                _check_varies(factor, "latents", z)
                unknown.append(factor)
                # Without the outermost latents: a few odd images, rather than odd values of the factor.
                low, high = np.quantile(z, [0.01, 0.99]).tolist()
                tables.append(4 * (np.linspace(low, high, KNOTS),))
                continue
            z, true = z[known], true[known]
            if len(z) < 2 * KNOTS:
                raise ValueError(
                    f"{factor}: calibration needs at least {2 * KNOTS} images, got {len(z)}"
                )
            _check_varies(factor, "latents", z)
            _check_varies(factor, "true values", true)
            at_values = np.linspace(true.min(), true.max(), KNOTS)
            # Knots at quantiles: as many images behind each piece of the curve, wherever the latents crowd.
            at_latents = np.quantile(z, np.linspace(0, 1, KNOTS))
            at_latents += np.linspace(0, 1e-5 * np.ptp(z), KNOTS)
            tables.append(
                (
                    at_values,
                    fit_monotone(true, z, at_values),
                    at_latents,
                    np.clip(fit_monotone(z, true, at_latents), true.min(), true.max()),
                )
            )
        columns = [np.array(column, np.float32) for column in zip(*tables, strict=True)]
        self.render_degrees.assign(columns[0])
        self.render_latents.assign(columns[1])
        self.infer_latents.assign(columns[2])
        self.infer_degrees.assign(columns[3])
        self.fitted.assign(1.0)
        return tuple(unknown)

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` was called, on this object or on the one it was loaded from."""
        return bool(keras.ops.convert_to_numpy(self.fitted) > 0)

    def range(self, factor: str) -> tuple[float, float]:
        """The smallest and the largest value the curves were fitted on."""
        row = keras.ops.convert_to_numpy(self.render_degrees)[self.factors.index(factor)]
        return float(row[0]), float(row[-1])

    def latent_of(self, factor: str, values: tf.Tensor) -> tf.Tensor:
        """The latent that renders a value; float32 of the shape of `values`."""
        row = self.factors.index(factor)
        return _interpolate(values, self.render_degrees[row], self.render_latents[row])

    def value_of(self, factor: str, latents: tf.Tensor) -> tf.Tensor:
        """The value that a latent tells; float32 of the shape of `latents`."""
        row = self.factors.index(factor)
        return _interpolate(latents, self.infer_latents[row], self.infer_degrees[row])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"factors": list(self.factors), "name": self.name}


def _check_varies(factor: str, name: str, values: np.ndarray) -> None:
    if not len(values) or not np.isfinite(values).all() or np.ptp(values) == 0:
        raise ValueError(f"{factor}: its {name} are all equal or not finite")


def _interpolate(x: tf.Tensor, xs: tf.Tensor, ys: tf.Tensor) -> tf.Tensor:
    """Piecewise linear through (xs, ys), constant outside; xs [K] rising, x of any shape."""
    x = tf.cast(x, tf.float32)
    flat = tf.reshape(tf.clip_by_value(x, xs[0], xs[-1]), [-1])
    # Counted, since TensorFlow Lite has no tf.searchsorted.
    passed = tf.reduce_sum(tf.cast(flat[:, tf.newaxis] >= xs, tf.int32), axis=1)
    left = tf.clip_by_value(passed - 1, 0, KNOTS - 2)
    x0, x1 = tf.gather(xs, left), tf.gather(xs, left + 1)
    y0, y1 = tf.gather(ys, left), tf.gather(ys, left + 1)
    share = tf.math.divide_no_nan(flat - x0, x1 - x0)
    return tf.reshape(y0 + share * (y1 - y0), tf.shape(x))
