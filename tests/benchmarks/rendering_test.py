"""The peers of the renderer draw the same pictures, so that their times may be compared."""

import concurrent.futures
import multiprocessing

import numpy as np
import pytest

from dcign_tf import scenes
from dcign_tf.benchmarks import rendering
from dcign_tf.benchmarks.sections import OURS


def _drawn(names: tuple[str, ...], case: str) -> list[np.ndarray]:
    model = scenes.load_source("builtin_face")
    (batch,) = rendering.draw_batches(model, case, 4, count=1)
    return [rendering.renderer(name, model, 100).draw(batch) for name in names]


@pytest.mark.parametrize(
    ("own_name", "name"),
    [
        (OURS, rendering.VTK),
        (OURS, rendering.EMBREE),
        (rendering.OURS_CULLED, rendering.VTK_CULLED),
    ],
)
@pytest.mark.parametrize("case", rendering.CASES)
def test_peers_draw_the_same_pictures(own_name: str, name: str, case: str) -> None:
    for package in rendering._REQUIRES[name]:
        pytest.importorskip(
            package,
            reason=f"no {package} here: after pip install '.[benchmark]', python3 run.py test runs it",
        )
    # As in the benchmark, in a process of their own: Mesa under VTK does not get on with TensorFlow.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        ours, theirs = pool.submit(_drawn, (own_name, name), case).result()
    assert ours.shape == theirs.shape == (4, 100, 100)
    assert ours.dtype == theirs.dtype == np.uint8
    for own, other in zip(ours / 255.0, theirs / 255.0, strict=True):
        both, any_ = (own > 0.02) & (other > 0.02), (own > 0.02) | (other > 0.02)
        assert both.sum() / any_.sum() > 0.98
        assert np.abs(own - other)[both].mean() < 0.02


def test_batches_of_one_identity_and_of_many() -> None:
    model = scenes.load_source("builtin_face")
    shared, each = (
        rendering.draw_batches(model, case, 5, count=2)[1].coefficients for case in rendering.CASES
    )
    assert len(np.unique(shared, axis=0)) == 1
    assert len(np.unique(each, axis=0)) == 5
