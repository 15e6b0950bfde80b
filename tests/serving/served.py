"""A served model to ask: by default the stand-in of `model_server` with `tiny`'s model, else a real TensorFlow Serving.

For a real one, set TF_SERVING_URL to its REST address and TF_SERVING_MODEL to the folder of versions that it serves
under the folder's name; TF_SERVING_GRPC_URL, if its gRPC port is not 8500 of the same host.
"""

import atexit
import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from dcign_tf.serving import engine, export
from dcign_tf.serving.server_address import parse_address
from tests.serving import model_server, tiny

LABEL = "stable"  # of the stand-in's first version


@dataclasses.dataclass(frozen=True)
class Served:
    """A server, and the same model here.

    Attributes:
        rest: the address of its REST interface.
        grpc: the address of its gRPC interface.
        folder: of its versions, on this machine.
        version: the one it takes by itself.
        local: the same model on this machine.
        functions: all its signatures.
        real: whether it is TensorFlow Serving's binary.
    """

    rest: str
    grpc: str
    folder: pathlib.Path
    version: int
    local: engine.Engine
    functions: Mapping[str, Any]
    real: bool

    @property
    def name(self) -> str:
        """The model's, there."""
        return self.folder.name

    def call(self, signature: str, **inputs: Any) -> dict[str, Any]:
        """What the model answers when it is asked here."""
        tensors = {
            k: tf.constant(v) if isinstance(v, list) else tf.constant(v, tf.float32)
            for k, v in inputs.items()
        }
        return {k: v.numpy() for k, v in self.functions[signature](**tensors).items()}

    def images(self, count: int, seed: int = 0) -> np.ndarray:
        """Checkered patches, of which no two are alike."""
        rng = np.random.default_rng(seed)
        side = self.local.image_size
        patches = rng.random([count, 4, 4, 1], np.float32)
        each = -(-side // 4)
        return patches.repeat(each, 1).repeat(each, 2)[:, :side, :side]

    def kept(self, count: int) -> dict[str, np.ndarray]:
        """Values that keep every factor."""
        return {f: np.full(count, np.nan, np.float32) for f in self.local.factor_ranges}


@functools.cache
def served() -> Served:
    """Something to ask, for all tests of this process."""
    url = os.environ.get("TF_SERVING_URL")
    if url:
        address = parse_address(url, "TF_SERVING_URL")
        folder = pathlib.Path(os.environ["TF_SERVING_MODEL"])
        remote = os.environ.get("TF_SERVING_GRPC_URL", f"grpc://{address.host}:8500")
        return _served(url, remote, folder, real=True)
    until_the_end = contextlib.ExitStack()
    atexit.register(until_the_end.close)
    root = until_the_end.enter_context(tempfile.TemporaryDirectory())
    first = export.export(tiny.model(), "faces", output=root)
    shutil.copytree(first, first.with_name("3"))
    models = model_server.Models({"faces": first.parent}, {"faces": {LABEL: 1}})
    running = until_the_end.enter_context(model_server.serve(models))
    return _served(running.rest, running.grpc, first.parent, real=False)


def _served(rest: str, remote: str, folder: pathlib.Path, real: bool) -> Served:
    version = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    local = engine.open_engine(folder)
    functions = local.owner.signatures  # type: ignore[attr-defined]
    return Served(rest, remote, folder, version, local, functions, real)
