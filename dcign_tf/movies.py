"""Animations as MP4 files, where PyAV is installed (`pip install 'dcign_tf[video]'`)."""

import fractions
import importlib.util
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from dcign_tf import images
from dcign_tf.errors import DcignError

_CODEC = "libx264"


def available() -> bool:
    """Whether `mp4_bytes` works here."""
    return importlib.util.find_spec("av") is not None


def mp4_bytes(frames: Sequence[Any] | np.ndarray, fps: float) -> bytes:
    """An MP4 file (H.264, 4:2:0), which every browser and phone plays.

    Args:
        frames: grey images, uint8 or float in [0, 1], [H, W] or [H, W, 1], at least one, all of one shape. An odd
            last row or column is left out: the format has no such pictures.
        fps: frames per second, above 0.

    Raises:
        DcignError: PyAV is not installed.
        ValueError: there are no frames, or `fps` is not positive.
    """
    if not available():
        raise DcignError("MP4 needs PyAV, which is not installed: pip install 'dcign_tf[video]'")
    if not len(frames) or not fps > 0:
        raise ValueError(f"frames, fps: got {len(frames)} and {fps}, must be at least one, above 0")
    import av

    pictures = [images.to_bytes(frame) for frame in frames]
    height, width = (side // 2 * 2 for side in pictures[0].shape[:2])
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream(
            _CODEC, rate=fractions.Fraction(fps).limit_denominator(1000)
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "18"}
        for picture in pictures:
            grey = np.ascontiguousarray(picture.reshape(picture.shape[:2])[:height, :width])
            for packet in stream.encode(av.VideoFrame.from_ndarray(grey, format="gray")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return buffer.getvalue()
