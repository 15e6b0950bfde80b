import pathlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dcign_tf.datasets import records
from dcign_tf.datasets.records import RecordLayout

LAYOUTS = st.builds(
    RecordLayout,
    group_size=st.integers(1, 5),
    image_size=st.sampled_from([1, 2, 7, 12, 129]),
    extrinsic=st.integers(1, 3),
    coefficients=st.sampled_from([0, 1, 5, 200]),
)


def random_group(layout: RecordLayout, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, 256, layout.shape, np.uint8),
        rng.standard_normal((layout.group_size, layout.extrinsic), np.float32),
        rng.standard_normal((layout.group_size, layout.coefficients), np.float32),
    )


@settings(max_examples=50)
@given(LAYOUTS, st.integers(0, 127), st.integers(0, 10**8 - 1), st.integers(0, 99))
def test_examples_are_tensorflows_byte_for_byte(
    layout: RecordLayout, active: int, index: int, seed: int
) -> None:
    images, degrees, coefficients = random_group(layout, seed)
    ours = layout.encode(images, degrees, coefficients, active, index)

    def floats(values: np.ndarray) -> tf.train.Feature:
        return tf.train.Feature(float_list=tf.train.FloatList(value=values.ravel()))

    def integers(values: list[int]) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def text(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {
        "active": integers([active]),
        "coefficients": floats(coefficients),
        "degrees": floats(degrees),
        "images": text(images.tobytes()),
        "index": text(b"%08d" % index),
        "shape": integers(list(layout.shape)),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    assert ours == example.SerializeToString(deterministic=True)
    assert len(ours) == layout.payload_length
    assert layout.has_signature(ours, active, index)
    assert not layout.has_signature(ours, active, (index + 1) % 10**8)
    assert not layout.has_signature(ours, (active + 1) % 128, index)


def test_files_are_tensorflows_byte_for_byte(tmp_path: pathlib.Path) -> None:
    payloads = [b"", b"a", bytes(range(256)) * 3, np.random.default_rng(0).bytes(100_003)]
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for payload in payloads:
            writer.write(payload)
    ours = b"".join(map(records.frame, payloads))
    assert ours == (tmp_path / "theirs").read_bytes()


def test_the_checksum_is_castagnolis() -> None:
    # RFC 3720, section B.4.
    table = records._TABLE
    assert records._crc32c(np.frombuffer(b"123456789", np.uint8), table) == 0xE3069283
    assert records._crc32c(np.zeros(32, np.uint8), table) == 0x8A9136AA
    assert records._crc32c(np.arange(32, dtype=np.uint8), table) == 0x46DD794E


@given(st.binary(max_size=100), st.data())
def test_a_damaged_record_is_told_from_a_sound_one(payload: bytes, data: st.DataObject) -> None:
    record = records.frame(payload)
    assert records.unframe(record) == payload
    damaged = bytearray(record)
    place = data.draw(st.integers(0, len(record) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    assert records.unframe(bytes(damaged)) is None
    assert records.unframe(record[: data.draw(st.integers(0, len(record) - 1))]) is None
    assert records.unframe(record + b"x") is None


def test_groups_that_do_not_fit_are_refused() -> None:
    layout = RecordLayout(2, 3, 3, 5)
    images, degrees, coefficients = random_group(layout, 0)
    with pytest.raises(ValueError, match="images: got float32"):
        layout.encode(images.astype(np.float32), degrees, coefficients, 0, 0)
    with pytest.raises(ValueError, match="images: got uint8"):
        layout.encode(images[:1], degrees, coefficients, 0, 0)
    with pytest.raises(ValueError, match="values: got shape"):
        layout.encode(images, degrees[:1], coefficients, 0, 0)
    with pytest.raises(ValueError, match="coefficients: got shape"):
        layout.encode(images, degrees, coefficients[:, :4], 0, 0)
    with pytest.raises(ValueError, match="index: got -1"):
        layout.encode(images, degrees, coefficients, 0, -1)
    with pytest.raises(ValueError, match="active: got 128"):
        layout.encode(images, degrees, coefficients, 128, 0)
