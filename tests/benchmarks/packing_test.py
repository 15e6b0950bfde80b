import pathlib

import pytest
from PIL import Image

from dcign_tf.benchmarks import packing
from dcign_tf.benchmarks.sections import Settings
from dcign_tf.datasets import rendering
from dcign_tf.errors import DcignError


def test_both_read_the_same_files_and_one_writes_records(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tuple(f"{identity}_{value}.png" for identity in range(4) for value in range(6))
    for name in names:
        identity, value = map(int, name[:-4].split("_"))
        Image.fromarray(packing._picture(identity, 60 * value, 40)).save(tmp_path / name)
    work = packing.work(str(tmp_path), names, 12, 5)
    work(packing.DECODING)
    assert not list(tmp_path.rglob("*.tfrecord"))
    work(packing.PACKING)
    (file,) = tmp_path.rglob("*.tfrecord")
    layout = rendering.records.RecordLayout(5, 12, 1, 0)
    assert file.stat().st_size == packing._GROUPS * layout.record_length
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(OSError):
        work(packing.DECODING)
    with pytest.raises(DcignError, match="an empty file"):
        work(packing.PACKING)


def test_the_part_reports_rates() -> None:
    section = packing.measure(Settings(image_size=38, batch=5, rounds=2, warm_up=1, quick=True))
    assert [row.candidate for row in section.rows] == [packing.PACKING, packing.DECODING]
    assert all("images per second" in row.note for row in section.rows)
    (verdict,) = section.verdicts
    assert float(verdict.found.split()[0]) > 0
