import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcign_tf.scenes import photography
from dcign_tf.scenes.photography import FULL, NUMBERS, PLAIN
from dcign_tf.scenes.render import Camera, Shading, Take

UNIT = st.floats(0, 1, width=32)


def contents(take: Take) -> tuple[object, ...]:
    arrays = (take.curve, take.background, take.cover)
    return (take.camera, take.shading, *(array.tobytes() for array in arrays))


def taken(
    numbers: np.ndarray,
    size: int,
    camera: Camera | None = None,
    shading: Shading | None = None,
    kind: str = FULL,
) -> Take:
    return photography.take(numbers, size, camera or Camera(), shading or Shading(), kind)


def middling(**values: float) -> np.ndarray:
    numbers = np.full(len(NUMBERS), 0.5, np.float32)
    for name, value in values.items():
        numbers[NUMBERS.index(name)] = value
    return numbers


@settings(max_examples=50)  # The first compiles.
@given(st.lists(UNIT, min_size=len(NUMBERS), max_size=len(NUMBERS)), st.integers(1, 40))
def test_any_numbers_make_a_take(numbers: list[float], size: int) -> None:
    # Its parts refuse what is impossible.
    take = taken(np.array(numbers, np.float32), size)
    assert take.background.shape == take.cover.shape == (size, size)
    assert (np.diff(take.curve) >= 0).all()  # More light is never darker.
    assert abs(take.camera.right) < 0.1 and abs(take.camera.up) < 0.1 and abs(take.camera.roll) < 13
    assert take.shading.ambient + take.shading.diffuse == pytest.approx(1)


def test_the_same_numbers_make_the_same_take() -> None:
    numbers = photography.draw(np.random.default_rng(0), 3)
    assert numbers.dtype == np.float32 and numbers.shape == (3, len(NUMBERS))
    takes = [contents(taken(row, 30)) for row in (*numbers, *numbers)]
    assert takes[:3] == takes[3:] and len(set(takes)) == 3


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_matters(name: str) -> None:
    rng = np.random.default_rng(1)
    changed = set()
    for numbers in photography.draw(rng, 20):
        other = numbers.copy()
        other[NUMBERS.index(name)] = (numbers[NUMBERS.index(name)] + 0.5) % 1
        pair = (taken(row, 20) for row in (numbers, other))
        changed.add(len({contents(take) for take in pair}))
    assert 2 in changed


def test_takes_vary_as_photographs_do() -> None:
    takes = [taken(row, 40) for row in photography.draw(np.random.default_rng(2), 400)]
    greys = np.array([take.background[:30].mean() / 255 for take in takes])
    assert np.histogram(greys, bins=5, range=(0, 1))[0].min() > 30
    texture = np.array([take.background[:30].std() / 255 for take in takes])
    assert (texture < 0.05).mean() > 0.15 and (texture > 0.1).mean() > 0.15
    zooms = np.array([take.camera.zoom for take in takes])
    assert 0.8 < np.median(zooms) < 0.9 and zooms.max() / zooms.min() > 1.4
    assert abs(np.mean([take.camera.right for take in takes])) < 0.01
    assert abs(np.mean([take.camera.roll for take in takes])) < 1
    # Middle grey of a surface in full light, before and after development.
    shown = [
        np.interp(0.5 / take.shading.brightest, np.linspace(0, 1, 1024), take.curve)
        for take in takes
    ]
    assert np.min(shown) < 0.3 and np.max(shown) > 0.8


def test_clothes_are_below_the_head_and_leave_the_neck_free() -> None:
    dressed = taken(
        middling(clothes=0.0, clothes_height=0.0, kind=0.0, grey=0.0, clothes_grey=1.0), 100
    )
    bare = taken(middling(clothes=0.9, kind=0.0, grey=0.0, clothes_grey=1.0), 100)
    assert not bare.cover.any()
    assert not dressed.cover[:70].any()
    assert dressed.cover[-1].mean() > 100 and dressed.background[-1].mean() > 200
    assert (dressed.background[:70] == bare.background[:70]).all()
    neck = dressed.cover[:, 50]
    assert dressed.cover[:, 25].astype(int).sum() > neck.astype(int).sum()


def test_plain_photographs_are_before_black() -> None:
    for numbers in photography.draw(np.random.default_rng(3), 100):
        plain, full = (taken(numbers, 20, kind=kind) for kind in (PLAIN, FULL))
        assert not plain.cover.any() and not plain.background.any()
        # All else is the same.
        assert (plain.camera, plain.shading) == (full.camera, full.shading)
        np.testing.assert_array_equal(plain.curve, full.curve)
    with pytest.raises(ValueError, match="kind: got 'half', must be plain or full"):
        taken(middling(), 20, kind="half")


def test_settings_of_the_camera_and_the_skin_are_kept() -> None:
    usual = taken(middling(), 8)
    larger = taken(middling(), 8, Camera(zoom=2.0, field_of_view=30.0), Shading(shininess=40.0))
    assert larger.camera.zoom == pytest.approx(2 * usual.camera.zoom)
    assert larger.camera.field_of_view == pytest.approx(1.5 * usual.camera.field_of_view)
    assert larger.shading.shininess == 40.0


@pytest.mark.parametrize(
    "numbers",
    [
        np.zeros(3),
        np.full(len(NUMBERS), 1.5),
        np.full(len(NUMBERS), np.nan),
        np.full((1, len(NUMBERS)), 0.5),
    ],
)
def test_other_numbers_are_refused(numbers: np.ndarray) -> None:
    with pytest.raises(ValueError, match=f"must be {len(NUMBERS)} from 0 to 1"):
        taken(numbers, 8)
