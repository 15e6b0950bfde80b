"""Groups of built-in chairs: which factor varies, who is in which split, and what is seen."""

import pickle

import numpy as np
import pytest

from dcign_tf.datasets import chair_scenes
from dcign_tf.datasets.chair_scenes import AZIMUTHS, ELEVATIONS, ChairConfig, ChairSampler
from dcign_tf.errors import UsageError
from dcign_tf.scenes import builtin_chair

_CONFIG = ChairConfig(image_size=24, group_size=6, split=(12, 3, 5), seed=4)


@pytest.fixture(scope="module")
def sampler() -> ChairSampler:
    return ChairSampler(_CONFIG)


def test_azimuth_groups_show_one_chair_at_one_elevation(sampler):
    seen = set()
    for index in range(20):
        azimuths, elevations, chairs = sampler.draw("train", "azimuth", index)
        assert len(set(azimuths)) == 6 and set(azimuths) <= set(AZIMUTHS)
        assert len(set(elevations)) == 1 and len(set(chairs)) == 1
        seen.add((elevations[0], chairs[0]))
    assert {elevation for elevation, _ in seen} == set(ELEVATIONS)
    assert len({chair for _, chair in seen}) > 6


def test_intrinsic_groups_show_many_chairs_from_one_azimuth(sampler):
    azimuths, elevations, chairs = sampler.draw("train", "intrinsic", 3)
    assert len(set(azimuths)) == 1 and len(set(chairs)) == 6
    assert set(elevations) == set(ELEVATIONS)
    assert len({sampler.draw("train", "intrinsic", i)[0][0] for i in range(60)}) > 20
    # Three chairs are not enough for six images.
    assert set(sampler.draw("validation", "intrinsic", 0)[2]) <= {0, 1, 2}


def test_in_mixed_groups_all_varies(sampler):
    azimuths, elevations, chairs = sampler.draw("test", "mixed", 0)
    assert len(set(azimuths)) > 2 and len(set(elevations)) == 2 and len(set(chairs)) > 1


def test_groups_say_what_their_images_show(sampler):
    group = sampler.group("test", "azimuth", 2)
    azimuths, elevations, chairs = sampler.draw("test", "azimuth", 2)
    assert group.images.shape == (6, 24, 24, 1) and group.images.dtype == np.uint8
    np.testing.assert_array_equal(group[1], azimuths[:, None].astype(np.float32))
    chair = sampler.chair("test", int(chairs[0]))
    assert group.coefficients.shape == (6, sampler.coefficients)
    np.testing.assert_array_equal(group.coefficients, np.tile(chair.values, (6, 1)))
    meshes = [builtin_chair.mesh(chair)] * 6
    np.testing.assert_array_equal(group.images, sampler.render(meshes, azimuths, elevations))


def test_a_group_is_a_pure_function_of_its_name(sampler):
    one = sampler.group("train", "mixed", 7)
    copy = pickle.loads(pickle.dumps(sampler))
    copy.group("train", "azimuth", 1)
    again = copy.group("train", "mixed", 7)
    for a, b in zip(one, again, strict=True):
        assert a.tobytes() == b.tobytes()
    assert sampler.group("train", "mixed", 7, variant=1).images.tobytes() != one.images.tobytes()
    other_seed = ChairSampler(ChairConfig(24, 6, (12, 3, 5), seed=5))
    assert other_seed.group("train", "mixed", 7).images.tobytes() != one.images.tobytes()


def test_splits_share_no_chair_and_their_sizes_change_no_chair(sampler):
    chairs = [
        sampler.chair(split, number).values.tobytes()
        for split, count in zip(("train", "validation", "test"), (12, 3, 5), strict=True)
        for number in range(count)
    ]
    assert len(set(chairs)) == 20
    larger = ChairSampler(ChairConfig(24, 6, (40, 30, 20), seed=4))
    assert larger.chair("test", 2) == sampler.chair("test", 2)


@pytest.mark.parametrize("number", range(10))
def test_chairs_fit_the_picture_all_around(number):
    sampler = ChairSampler(ChairConfig(image_size=64, supersample=1))
    chair = builtin_chair.mesh(sampler.chair("test", number))
    for elevation in ELEVATIONS:
        images = sampler.render([chair] * 30, AZIMUTHS, np.full(30, elevation))[..., 0]
        # Before white, and never as white.
        assert (images[:, [0, -1]] == 255).all() and (images[:, :, [0, -1]] == 255).all()
        shares = (images < 250).mean(axis=(1, 2))
        assert (shares > 0.02).all() and (shares < 0.6).all()


def test_chairs_are_seen_from_above_and_turn_to_the_right():
    sampler = ChairSampler(ChairConfig(image_size=64))
    number = next(n for n in range(99) if sampler.chair("test", n).kind == "dining")
    chair = builtin_chair.mesh(sampler.chair("test", number))
    level, above, right = sampler.render([chair] * 3, np.array([0, 0, 60]), np.array([0, 30, 30]))
    # From above a seat is an area, from its own height a line; a chair that turns to the right hides its left behind
    # its back, so that more of the seat, which is lower than the back, lies on the right.
    assert (above < 250).sum() > 1.1 * (level < 250).sum()
    columns = np.arange(64)[None, :, None]
    upper = (right < 250) & (np.arange(64)[:, None, None] < 22)
    assert (upper * columns).sum() / upper.sum() < 31.5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_size", 0),
        ("group_size", 1),
        ("group_size", 31),
        ("seed", -1),
        ("supersample", 17),
        ("split", (1, 5, 5)),
        ("split", (5, 0.5, 5)),
        ("split", (5, 5)),
        ("source", "builtin_face"),
    ],
)
def test_impossible_settings_name_the_flag(field, value):
    with pytest.raises(UsageError, match=f"--{field}: got"):
        ChairConfig(**{field: value})


def test_unknown_names_are_refused(sampler):
    with pytest.raises(ValueError, match="split: got 'tset'"):
        sampler.group("tset", "azimuth", 0)
    with pytest.raises(ValueError, match="factor: got 'elevation'"):
        sampler.group("test", "elevation", 0)


def test_settings_tell_data_sets_apart(sampler):
    assert sampler.settings["split"] == [12, 3, 5]
    assert sampler.settings == ChairSampler(_CONFIG).settings
    assert sampler.settings != ChairSampler(ChairConfig(24, 6, (12, 3, 5), seed=5)).settings


def test_chairs_look_the_same_from_inside_left_out(monkeypatch, sampler):
    # Their parts are closed, which is why the sampler does not draw back faces.
    drawn = sampler.group("test", "mixed", 0).images
    original = chair_scenes.render_meshes
    monkeypatch.setattr(
        chair_scenes, "render_meshes", lambda *a, **k: original(*a, **k | {"back_faces": True})
    )
    assert np.array_equal(sampler.group("test", "mixed", 0).images, drawn)
