import dataclasses
import itertools
import pathlib

import numpy as np
import pytest

from dcign_tf.datasets.scenes import EXTRINSIC, FACTORS, MIXED, SPLITS, SceneConfig, SceneSampler
from dcign_tf.errors import UsageError
from dcign_tf.scenes.photography import NUMBERS, take
from dcign_tf.scenes.render import Camera, Shading, render
from tests.datasets import tiny

KINDS = (*FACTORS, MIXED)


@pytest.fixture(scope="module")
def sampler() -> SceneSampler:
    return SceneSampler(SceneConfig(image_size=12, group_size=6, seed=3), tiny.model())


def test_a_group_is_a_function_of_seed_split_factor_and_index(sampler: SceneSampler) -> None:
    again = SceneSampler(sampler.config, tiny.model())
    other_seed = SceneSampler(dataclasses.replace(sampler.config, seed=4), tiny.model())
    seen = set()
    for split, factor, index in itertools.product(SPLITS, KINDS, (0, 1, 2**32, 2**32 + 1)):
        group = sampler.group(split, factor, index)
        for ours, theirs in zip(group, again.group(split, factor, index), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        seen.add(group.coefficients.tobytes())
        seen.add(other_seed.group(split, factor, index).coefficients.tobytes())
        seen.add(sampler.draw(split, factor, index, variant=1)[1].tobytes())
        seen.add(sampler.draw(split, factor, index, variant=2**32)[1].tobytes())
    assert len(seen) == len(SPLITS) * len(KINDS) * 4 * 4


def test_what_is_drawn_stays_what_it_was(sampler: SceneSampler) -> None:
    # A data set that was begun with an older version is gone on with by a newer one: the streams must not change.
    degrees, coefficients = sampler.draw("train", "azimuth", 5)
    np.testing.assert_allclose(
        degrees[:2], [[68.4938, -5.626, -5.7005], [-10.8136, -5.626, -5.7005]], atol=1e-4
    )
    np.testing.assert_allclose(
        coefficients[0], [1.01468, -1.9773, 1.27189, 0.07158, 1.25811], atol=1e-5
    )


@pytest.mark.parametrize("factor", KINDS)
def test_only_the_active_factor_varies(sampler: SceneSampler, factor: str) -> None:
    for index in range(20):
        degrees, coefficients = sampler.draw("train", factor, index)
        assert degrees.dtype == coefficients.dtype == np.float32
        assert degrees.shape == (6, 3) and coefficients.shape == (6, 5)
        for column, name in enumerate(EXTRINSIC):
            distinct = len(np.unique(degrees[:, column]))
            assert distinct == (6 if factor in (name, MIXED) else 1)
        identities = len(np.unique(coefficients, axis=0))
        assert identities == (6 if factor in ("intrinsic", MIXED) else 1)


def test_angles_are_uniform_in_their_ranges() -> None:
    config = SceneConfig(
        image_size=8,
        group_size=50,
        azimuth_range=(-30, 10),
        elevation_range=(5, 6),
        light_range=(-80, 80),
    )
    drawn = SceneSampler(config, tiny.model())
    for column, (name, (low, high)) in enumerate(config.ranges.items()):
        within = [drawn.draw("train", name, index)[0][:, column] for index in range(20)]
        # The pose of a group in which something else varies is random, too.
        between = [drawn.draw("train", "intrinsic", index)[0][0, column] for index in range(1000)]
        for values in (np.concatenate(within), np.array(between)):
            assert low <= values.min() and values.max() <= high
            shares = np.histogram((values - low) / (high - low), bins=10, range=(0, 1))[0]
            assert shares.sum() == 1000
            assert 60 < shares.min() and shares.max() < 140


def test_splits_share_no_identity(sampler: SceneSampler) -> None:
    identities = {
        split: {
            row.tobytes()
            for factor in KINDS
            for index in range(60)
            for row in sampler.draw(split, factor, index)[1]
        }
        for split in SPLITS
    }
    for one, other in itertools.combinations(SPLITS, 2):
        assert not identities[one] & identities[other]
    # Nor do groups of one split: 3 factors with an identity for each group, 2 with six.
    assert len(identities["train"]) == 60 * (3 + 2 * 6)


def test_images_are_those_of_the_scenes(sampler: SceneSampler) -> None:
    config = SceneConfig(
        image_size=12, group_size=6, seed=3, zoom=1.2, ambient=0.5, light_elevation=-10.0
    )
    images, degrees, coefficients = SceneSampler(config, tiny.model()).group("test", MIXED, 1)
    assert images.shape == (6, 12, 12, 1) and images.dtype == np.uint8
    azimuth, elevation, light = degrees.T
    expected = render(
        tiny.model(), coefficients, azimuth, elevation, light, 12, config.camera, config.shading
    )
    np.testing.assert_array_equal(images, expected)
    assert config.camera.zoom == 1.2
    assert (config.shading.ambient, config.shading.light_elevation) == (0.5, -10.0)
    assert (images != sampler.group("test", MIXED, 1).images).any()


def test_the_source_is_loaded_by_name(tmp_path: pathlib.Path) -> None:
    config = tiny.config(tmp_path)
    expected = SceneSampler(config, tiny.model()).group("train", MIXED, 0)
    np.testing.assert_array_equal(
        SceneSampler(config).group("train", MIXED, 0).images, expected.images
    )


def test_configurations_survive_json() -> None:
    config = SceneConfig(source_path="x.npz", azimuth_range=(-1.5, 2), seed=2**40)
    values = config.to_dict()
    assert values["azimuth_range"] == [-1.5, 2.0]
    assert SceneConfig.from_dict(values) == config
    assert SceneConfig.from_dict({}) == SceneConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": "150"}, "image_size: got '150'"),
        ({"image_size": True}, "image_size: got True"),
        ({"image_size": 1.5}, "image_size: got 1.5"),
        ({"zoom": float("nan")}, "zoom: got nan"),
        ({"azimuth_range": [1]}, "azimuth_range"),
        ({"azimuth_range": "ab"}, "azimuth_range"),
        ({"source": None}, "source: got None"),
        ({"colour": 1}, "colour: no such setting; there are source"),
    ],
)
def test_settings_of_the_wrong_type_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SceneConfig.from_dict(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": 0}, "--image_size: got 0, must be 1 to 4096"),
        ({"group_size": 1}, "--group_size: got 1"),
        ({"seed": -1}, "--seed: got -1"),
        ({"azimuth_range": [30, 3]}, "--azimuth_range: got 30,3"),
        ({"azimuth_range": [-181, 3]}, "--azimuth_range: got -181,3"),
        ({"elevation_range": [0, 91]}, "--elevation_range: got 0,91"),
        ({"light_range": [5, 5]}, "--light_range: got 5,5"),
        ({"zoom": 0}, "--zoom: got 0"),
        ({"ambient": 2}, "--ambient: got 2"),
        ({"supersample": 0}, "--supersample: got 0"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SceneConfig.from_dict(values)


def test_unknown_splits_factors_and_indices_are_refused(sampler: SceneSampler) -> None:
    with pytest.raises(ValueError, match="split: got 'dev'"):
        sampler.draw("dev", MIXED, 0)
    with pytest.raises(ValueError, match="factor: got 'pose'"):
        sampler.draw("train", "pose", 0)
    with pytest.raises(ValueError, match="index, variant: got -1, 0"):
        sampler.draw("train", MIXED, -1)


@pytest.fixture(scope="module")
def photographer(sampler: SceneSampler) -> SceneSampler:
    return SceneSampler(dataclasses.replace(sampler.config, photographic="full"), tiny.model())


@pytest.mark.parametrize("factor", KINDS)
def test_how_photographs_are_taken_is_intrinsic(
    sampler: SceneSampler, photographer: SceneSampler, factor: str
) -> None:
    degrees, coefficients = photographer.draw("train", factor, 1)
    plain_degrees, plain = sampler.draw("train", factor, 1)
    # The same heads at the same angles.
    np.testing.assert_array_equal(degrees, plain_degrees)
    np.testing.assert_array_equal(coefficients[:, : plain.shape[1]], plain)
    assert coefficients.shape[1] == photographer.coefficients == plain.shape[1] + len(NUMBERS)
    different = len(np.unique(coefficients[:, plain.shape[1] :], axis=0))
    assert different == (6 if factor in ("intrinsic", MIXED) else 1)


def test_photographs_are_those_of_the_numbers(photographer: SceneSampler) -> None:
    for factor in KINDS:
        images, degrees, coefficients = photographer.group("test", factor, 2)
        takes = [take(numbers, 12, Camera(), Shading()) for numbers in coefficients[:, 5:]]
        azimuth, elevation, light = degrees.T
        heads = coefficients[:, :5]
        expected = render(tiny.model(), heads, azimuth, elevation, light, 12, takes=takes)
        np.testing.assert_array_equal(images, expected)
        corners = np.unique([image[0, 0] for image in images])
        assert (len(corners) > 1) == (factor in ("intrinsic", MIXED))


def test_what_photographs_vary_cannot_be_set_too(photographer: SceneSampler) -> None:
    with pytest.raises(
        UsageError, match="--background: got 0.5, but it is random with --photographic=plain"
    ):
        SceneConfig(photographic="plain", background=0.5)
    assert photographer.settings["photographic"] == "full"
    assert SceneConfig.from_dict(photographer.config.to_dict()) == photographer.config
    # Data sets that were made before there were photographs are what they were.
    assert "photographic" not in SceneConfig().to_dict()
    with pytest.raises(UsageError, match="--photographic: got 'yes', must be off, plain or full"):
        SceneConfig(photographic="yes")
