"""An exported model does what the Keras model does, without this package."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from dcign_tf.errors import DcignError, UsageError
from dcign_tf.model import DCIGN
from dcign_tf.serving import export
from tests.serving import tiny


@pytest.fixture(scope="module")
def folder() -> pathlib.Path:
    return tiny.exported()


@pytest.fixture(scope="module")
def signatures(folder: pathlib.Path) -> Any:
    loaded = tf.saved_model.load(str(folder))
    found = dict(loaded.signatures)
    found["owner"] = loaded
    return found


_EVERYTHING_ELSE = """
    import sys

    class Hidden:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("dcign_tf", "tensorflow_probability", "tf_keras"):
                raise ModuleNotFoundError(f"{name} is hidden", name=name)

    sys.meta_path.insert(0, Hidden())
    import numpy as np
    import tensorflow as tf

    loaded = tf.saved_model.load(sys.argv[1])
    inputs = np.load(sys.argv[2])
    outputs = {}
    for name, keys in (
        ("serving_default", ["images", "azimuth", "elevation", "light_azimuth"]),
        ("encode", ["images"]),
        ("edit", ["codes", "azimuth", "elevation", "light_azimuth"]),
        ("decode", ["codes"]),
        ("reconstruct", ["images"]),
    ):
        result = loaded.signatures[name](**{key: tf.constant(inputs[key]) for key in keys})
        outputs |= {f"{name}/{key}": value.numpy() for key, value in result.items()}
    assert not any(name.startswith("dcign_tf") for name in sys.modules)
    np.savez(sys.argv[3], **outputs)
"""


def test_loads_and_agrees_where_this_package_is_missing(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    rng = np.random.default_rng(5)
    degrees = {f: rng.uniform(-24, 24, 4).astype(np.float32) for f in tiny.FACTORS}
    degrees["azimuth"][1] = degrees["elevation"][2] = np.nan
    images = tiny.images(4, seed=9)
    codes = rng.normal(size=[4, 8]).astype(np.float32)
    inputs: dict[str, Any] = {"images": images, "codes": codes, **degrees}
    np.savez(tmp_path / "in.npz", **inputs)
    subprocess.run(
        [
            *[sys.executable, "-c", textwrap.dedent(_EVERYTHING_ELSE)],
            *[str(folder), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")],
        ],
        check=True,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    model = tiny.model()
    mean, log_variance = model.encode(images)
    expected = {
        "serving_default/images": model.rerender(images, **degrees),
        "encode/mean": mean,
        "encode/log_variance": log_variance,
        **{f"encode/{factor}": read for factor, read in model.infer(images).items()},
        "edit/codes": model.edit(codes, **degrees),
        "decode/images": model.decode(codes),
        "reconstruct/images": model(images),
    }
    with np.load(tmp_path / "out.npz") as outputs:
        assert set(outputs) == set(expected)
        for key, value in expected.items():
            # Degrees are two orders of magnitude larger than grey values and latents.
            tolerance = 1e-3 if key.split("/")[1] in tiny.FACTORS else 1e-5
            np.testing.assert_allclose(outputs[key], value, atol=tolerance, err_msg=key)


@pytest.mark.parametrize("count", [1, 3, 17])
def test_any_number_of_images(signatures: Any, count: int) -> None:
    images = tf.constant(tiny.images(count))
    keep = {f: tf.fill([count], np.nan) for f in tiny.FACTORS}
    assert signatures["serving_default"](images=images, **keep)["images"].shape == (
        count,
        38,
        38,
        1,
    )
    assert signatures["encode"](images=images)["azimuth"].shape == (count,)
    assert signatures["decode"](codes=tf.zeros([count, 8]))["images"].shape == (count, 38, 38, 1)


def test_nan_keeps_every_factor(signatures: Any) -> None:
    images = tf.constant(tiny.images(3))
    keep = {f: tf.fill([3], np.nan) for f in tiny.FACTORS}
    np.testing.assert_allclose(
        signatures["serving_default"](images=images, **keep)["images"],
        signatures["reconstruct"](images=images)["images"],
        atol=1e-6,
    )
    turned = signatures["serving_default"](images=images, **{**keep, "azimuth": tf.fill([3], 60.0)})
    assert (
        np.abs(turned["images"] - signatures["reconstruct"](images=images)["images"]).max() > 0.01
    )


def test_nothing_of_this_machine_or_package_is_in_the_graph(folder: pathlib.Path) -> None:
    here = str(pathlib.Path(export.__file__).parents[2]).encode()
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert here not in content, file
            assert file.parent.name == "assets.extra" or b"dcign_tf" not in content, file


def test_only_plain_operations(folder: pathlib.Path) -> None:
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    used = {
        node.op
        for function in saved.meta_graphs[0].graph_def.library.function
        for node in function.node_def
    }
    assert {"Conv2D", "Assert", "DecodePng"} < used
    for exotic in ("PyFunc", "EagerPyFunc", "PyFuncStateless", "XlaCallModule"):
        assert exotic not in used


def test_the_card_says_what_the_model_is(folder: pathlib.Path) -> None:
    card = json.loads((folder / "assets.extra" / "card.json").read_text())
    assert (card["name"], card["version"], card["image_size"], card["latents"]) == (
        "faces",
        1,
        38,
        8,
    )
    assert card["factors"]["elevation"] == {"latents": [1], "range": [-25, 25], "unit": "degrees"}
    assert card["metrics"] == {"mse": 1}
    assert card["limits"] == {
        "images": 128,
        "pixels_of_a_picture": 16777216,
        "bytes_of_a_picture": 33554432,
    }
    assert DCIGN(**card["config"]).layout == tiny.model().layout
    readme = (folder / "assets.extra" / "README.md").read_text()
    for part in (
        "# faces, version 1",
        "| elevation | 1 | -25 | 25 | degrees |",
        "| `rerender_bytes` | `image_bytes` [N], `azimuth` [N], ",
        "from 1 to 128;",
        "## Metrics",
    ):
        assert part in readme


@pytest.fixture
def _few_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what becomes of folders, whatever is in them: reading pictures takes long to trace."""
    monkeypatch.setattr(export.signatures, "bytes_signatures", lambda *_: {})


@pytest.mark.usefixtures("_few_signatures")
def test_versions_count_up_and_are_never_replaced(tmp_path: pathlib.Path) -> None:
    made = [export.export(tiny.model(), "a", version, tmp_path) for version in (None, 7, None)]
    assert [path.name for path in made] == ["1", "7", "8"]
    with pytest.raises(UsageError, match=r"--version: .*7 exists"):
        export.export(tiny.model(), "a", 7, tmp_path)
    assert sorted(entry.name for entry in (tmp_path / "a").iterdir()) == ["1", "7", "8"]


def test_the_folder_is_as_public_as_others(folder: pathlib.Path) -> None:
    assert folder.stat().st_mode == folder.parent.stat().st_mode


@pytest.mark.usefixtures("_few_signatures")
def test_a_version_that_somebody_else_made_meanwhile(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tmp_path / "a" / "1"
    next_version = export._next_version

    def late(home: pathlib.Path) -> int:
        number = next_version(home)
        if not taken.exists():
            taken.mkdir()
            (taken / "saved_model.pb").write_bytes(b"theirs")
        return number

    monkeypatch.setattr(export, "_next_version", late)
    assert export.export(tiny.model(), "a", output=tmp_path).name == "2"
    assert (taken / "saved_model.pb").read_bytes() == b"theirs"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a b", ".a", "ä" * 3, "a" * 101])
def test_names_that_are_no_folders(tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(UsageError, match="--name: got"):
        export.export(tiny.model(), name, output=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_few_signatures")
def test_refusals_leave_nothing(tmp_path: pathlib.Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(DcignError, match="not calibrated"):
        export.export(tiny.uncalibrated_model(), "a", output=output)
    with pytest.raises(UsageError, match="--version: got 0"):
        export.export(tiny.model(), "a", 0, output)
    assert not output.exists()
    output.write_text("a file")
    with pytest.raises(UsageError, match="a file is in the way"):
        export.export(tiny.model(), "a", output=output)


@pytest.mark.usefixtures("_few_signatures")
@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt()])
def test_a_failure_while_saving_leaves_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(module: Any, folder: str, *_: Any) -> None:
        pathlib.Path(folder, "saved_model.pb").write_bytes(b"half")
        raise error

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(type(error)):
        export.export(tiny.model(), "a", output=tmp_path)
    assert not list(tmp_path.iterdir())
