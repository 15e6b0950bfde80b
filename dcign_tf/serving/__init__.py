"""What a trained model is used for: re-rendering images, export for TensorFlow Serving, and a client of it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcign_tf.serving.client import Client as Client

# Factors that dcign-rerender has a flag for; all others it takes by --set.
NAMED_FACTORS = ("azimuth", "elevation", "light_azimuth")


def __getattr__(name: str) -> Any:
    # What renders on this machine needs nothing of a client.
    if name == "Client":
        from dcign_tf.serving.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
