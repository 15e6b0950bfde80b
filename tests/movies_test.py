"""Movies decode to what went in; without the library, one line says which."""

import importlib
import io

import numpy as np
import pytest

from dcign_tf import movies
from dcign_tf.errors import DcignError


def test_frames_come_back() -> None:
    av = importlib.import_module("av")
    frames = np.linspace(0.2, 0.8, 5)[:, None, None] * np.ones([5, 41, 63])
    with av.open(io.BytesIO(movies.mp4_bytes(frames, 20.0))) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 20
        assert stream.codec_context.name == "h264"
        decoded = np.stack([f.to_ndarray(format="gray") for f in container.decode(stream)])
    assert decoded.shape == (5, 40, 62)
    np.testing.assert_allclose(decoded / 255, frames[:, :40, :62], atol=0.02)


def test_nothing_to_show() -> None:
    with pytest.raises(ValueError, match="frames, fps: got 0 and 20"):
        movies.mp4_bytes([], 20)
    with pytest.raises(ValueError, match="frames, fps: got 1 and 0"):
        movies.mp4_bytes([np.zeros([8, 8])], 0)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movies, "available", lambda: False)
    with pytest.raises(DcignError, match=r"pip install 'dcign_tf\[video\]'"):
        movies.mp4_bytes([np.zeros([8, 8])], 20)
