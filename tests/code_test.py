import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcign_tf.code import CodeLayout, on_circles, told


def test_the_papers_layout():
    layout = CodeLayout.paper()
    assert layout.factors == ("azimuth", "elevation", "light_azimuth", "intrinsic")
    assert layout.extrinsic == ("azimuth", "elevation", "light_azimuth")
    assert layout.latents == 200
    assert [layout.indices(f).tolist() for f in layout.extrinsic] == [[0], [1], [2]]
    assert layout.indices("intrinsic").tolist() == list(range(3, 200))


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6))
def test_every_latent_belongs_to_one_factor_and_the_config_says_it_all(sizes):
    layout = CodeLayout({f"factor{i}": size for i, size in enumerate(sizes)})
    assert (layout.masks.sum(axis=0) == 1).all()
    assert layout.masks.sum(axis=1).tolist() == sizes
    for row, factor in enumerate(layout.factors):
        assert np.flatnonzero(layout.masks[row]).tolist() == layout.indices(factor).tolist()
    again = CodeLayout.from_config(json.loads(json.dumps(layout.get_config())))
    assert again == layout and hash(again) == hash(layout)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"a": 1}, "at least one extrinsic"),
        ({"a": 0, "b": 1}, "got 0 latents"),
        ({"a b": 1, "b": 1}, "letters, digits"),
        ([("a", 1), ("a", 2)], "given twice"),
    ],
)
def test_impossible_layouts_are_refused(factors, message):
    with pytest.raises(ValueError, match=message):
        CodeLayout(factors)


def test_an_unknown_factor_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="'yaw': not one of azimuth, elevation"):
        CodeLayout.paper().indices("yaw")


def test_a_circular_factor_has_a_direction_for_a_latent():
    layout = CodeLayout({"a": 1, "turn": 2, "rest": 3}, ["turn"])
    assert layout.circular == ("turn",) and layout.indices("turn").tolist() == [1, 2]
    again = CodeLayout.from_config(json.loads(json.dumps(layout.get_config())))
    assert again == layout and again.circular == ("turn",) and hash(again) == hash(layout)
    assert layout != CodeLayout({"a": 1, "turn": 2, "rest": 3})
    assert (
        "circular" not in CodeLayout.paper().get_config()
    )  # As in files from before there were such.
    codes = np.array([[5.0, 0.0, 3.0, 1.0, 1.0, 1.0], [5.0, -2.0, 0.0, 1.0, 1.0, 1.0]])
    np.testing.assert_allclose(told(codes, [1, 2]), [np.pi / 2, np.pi])
    assert told(codes, [0]).tolist() == [5, 5]
    assert on_circles(codes, [[1, 2]])[:, :3].tolist() == [[5, 0, 1], [5, -1, 0]]
    assert on_circles(np.zeros([1, 2]), [[0, 1]]).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("circular", "message"),
    [
        (["rest"], "'rest', must be one of a, turn"),
        (["b"], "'b', must be"),
        (["a"], "got 1 latents, must have 2"),
    ],
)
def test_impossible_circles_are_refused(circular, message):
    with pytest.raises(ValueError, match=message):
        CodeLayout({"a": 1, "turn": 2, "rest": 2}, circular)
