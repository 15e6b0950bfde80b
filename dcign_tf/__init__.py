"""dcign_tf: a neural network that works like a graphics engine.

The Deep Convolutional Inverse Graphics Network (Kulkarni, Whitney, Kohli, Tenenbaum 2015) in Keras 3 on TensorFlow.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcign_tf.clamping import clamp as clamp
    from dcign_tf.code import CodeLayout as CodeLayout
    from dcign_tf.layers import UnpoolConv2D as UnpoolConv2D
    from dcign_tf.model import DCIGN as DCIGN
    from dcign_tf.model import load_model as load_model

__version__ = "0.1.0"

_HOMES = {
    "clamp": "clamping",
    "CodeLayout": "code",
    "UnpoolConv2D": "layers",
    "DCIGN": "model",
    "load_model": "model",
}
__all__ = ["DCIGN", "CodeLayout", "UnpoolConv2D", "clamp", "load_model"]


def __getattr__(name: str) -> Any:
    # Rendering needs no TensorFlow, whose import takes seconds: it is loaded when first asked for.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"dcign_tf.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
