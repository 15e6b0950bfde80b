"""Detail is carried to where the renderer draws it, by a model that knows where that is but sees no detail."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from dcign_tf.errors import DcignError, UsageError
from dcign_tf.scenes import load_source
from dcign_tf.scenes.render import Camera, Shading, render
from dcign_tf.serving import engine as engines
from dcign_tf.serving.detail import Detailed
from tests.serving import tiny

_SIDE = 70
_POSE = {"azimuth": 10.0, "elevation": 5.0, "light_azimuth": -20.0}
_CAMERA = Camera(zoom=0.85, right=0.04, up=-0.03)
_SHADING = Shading(ambient=0.4, diffuse=0.6, specular=0.0, light_elevation=20.0)
_HEAD = load_source("builtin_face")


def _person(seed: int = 3) -> np.ndarray:
    """The mean head's shape with somebody's paint; float32 [1, K + M]."""
    coefficients = np.random.default_rng(seed).normal(0, 1.5, [1, _HEAD.coefficients])
    coefficients[:, : len(_HEAD.shape_modes)] = 0
    return coefficients.astype(np.float32)


def _draw(**values: float) -> np.ndarray:
    """The person as the renderer draws it; float32 [1, S, S, 1]."""
    pose = {**_POSE, **values}
    azimuth, elevation, light = (np.array([pose[factor]]) for factor in _POSE)
    drawn = render(
        _HEAD, _person(), azimuth, elevation, light, _SIDE, camera=_CAMERA, shading=_SHADING
    )
    return drawn / np.float32(255)


def _blurred(image: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(image, (0, 3, 3, 0))


class _Blurring:
    """A model that reads the pose perfectly and renders anything, but blurred."""

    def __init__(self) -> None:
        self.image_size = _SIDE
        self.factor_ranges, self.periods = tiny.RANGES, dict[str, float]()
        self.units = dict.fromkeys(tiny.RANGES, "degrees")
        self.read = 0  # images

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.read += len(images)
        return {f: np.full(len(images), v, np.float32) for f, v in _POSE.items()}

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        return self.rerender(images, {})

    def rerender(self, images: np.ndarray, values: Mapping[str, Any]) -> np.ndarray:
        settings = [
            {f: float(np.broadcast_to(v, len(images))[row]) for f, v in values.items()}
            for row in range(len(images))
        ]
        told = [{f: v for f, v in setting.items() if not np.isnan(v)} for setting in settings]
        return np.concatenate([_blurred(_draw(**setting)) for setting in told])


def _detailed(model: _Blurring) -> Detailed:
    return Detailed(model)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "share"),
    [
        ({}, 0.4),
        ({"azimuth": -5.0}, 0.5),
        ({"azimuth": 30.0}, 0.6),
        ({"azimuth": -15.0, "elevation": 0.0}, 0.75),
        ({"elevation": -8.0}, 0.6),
        ({"light_azimuth": 20.0}, 0.6),
    ],
)
def test_detail_goes_where_it_belongs(values: dict[str, float], share: float) -> None:
    model = _Blurring()
    truth, network = _draw(**values), model.rerender(_draw(), values)
    kept = _detailed(model).rerender(_draw(), values)
    assert kept.dtype == np.float32 and kept.shape == truth.shape
    assert 0 <= kept.min() and kept.max() <= 1
    # Where the head ends, both are blurred.
    inside = ndimage.binary_erosion(truth[0, ..., 0] > 0.02, iterations=6)
    errors = [((image - truth)[0, inside] ** 2).mean() for image in (kept, network)]
    assert errors[0] < share * errors[1]


def test_what_the_picture_hides_is_the_networks() -> None:
    model = _Blurring()
    kept, network = (m.rerender(_draw(), {"azimuth": 85.0}) for m in (_detailed(model), model))
    # Turned to the viewer's right, the left of the picture shows the back of the head.
    back = (
        np.broadcast_to(np.arange(_SIDE) < 0.4 * _SIDE, kept.shape[1:3])
        & (network > 0.05)[0, ..., 0]
    )
    assert back.sum() > 200
    ratio = kept[0, back].sum() / network[0, back].sum()  # no more than another brightness
    assert 0.5 <= ratio <= 2
    np.testing.assert_allclose(kept[0, back], ratio * network[0, back], atol=0.01)


def test_each_image_is_read_once_and_has_its_own_detail() -> None:
    model = _Blurring()
    detailed = _detailed(model)
    mirrored = _draw()[:, :, ::-1]
    pair = np.concatenate([_draw(), mirrored])
    together = detailed.rerender(pair.repeat(3, 0), {"azimuth": [0, 10, np.nan] * 2})
    assert model.read == 2
    np.testing.assert_array_equal(
        together[:3], detailed.rerender(pair[:1].repeat(3, 0), {"azimuth": [0, 10, np.nan]})
    )
    np.testing.assert_array_equal(together[1], together[2])  # 10 is what it is read to be
    assert np.abs(together[0] - together[3]).max() > 0.1
    assert model.read == 2
    many = np.clip(_draw() + np.linspace(0, 0.03, 20, dtype=np.float32)[:, None, None, None], 0, 1)
    detailed.rerender(many, {})
    assert len(detailed._surfaces) == 16


def test_only_heads_before_black_have_detail() -> None:
    detailed = _detailed(_Blurring())
    wall = np.maximum(_draw(), 0.5)
    with pytest.raises(
        DcignError, match=r"^--keep_detail: .* grey value of 0.50 or more; add --cut_out$"
    ):
        detailed.rerender(wall, {"azimuth": 0.0})
    spot = np.zeros_like(wall)
    spot[:, 30:40, 30:40] = 1
    for nothing in (spot, np.zeros_like(wall)):
        with pytest.raises(
            DcignError, match=r"^--keep_detail: finds no head in the picture \(the best"
        ):
            detailed.rerender(nothing, {"azimuth": 0.0})
    # Film's black is no background.
    assert detailed.rerender(np.maximum(_draw(), 0.09), {"azimuth": 0.0}).any()


def test_only_models_of_heads_have_detail() -> None:
    spins = tiny.uncalibrated_model({"spin": 1, "intrinsic": 5})
    images = tiny.images(80)
    spins.calibrate(images, {"spin": np.linspace(0, 1, 80)})
    with pytest.raises(UsageError, match=r"^--keep_detail: is for heads .* factors are spin$"):
        Detailed(engines.engine_of(spins))
