"""What packing images into records costs beside decoding them, which cannot be avoided."""

import pathlib
import tempfile
from collections.abc import Callable

import numpy as np

from dcign_tf.benchmarks import sections, workers
from dcign_tf.benchmarks.sections import Section, Settings, Verdict
from dcign_tf.benchmarks.workers import Candidate

PACKING, DECODING = "packing into records", "decoding the same files, no more"
_SIDE = 600  # pixels; of the 3D chairs
_IDENTITIES, _VALUES = 4, 24
_GROUPS = 4


def measure(settings: Settings) -> Section:
    """Packs PNG files as large as those of the 3D chairs, and only decodes them, in turns."""
    from PIL import Image

    values, side = (6, 90) if settings.quick else (_VALUES, _SIDE)
    with tempfile.TemporaryDirectory(prefix="dcign-benchmark.") as folder:
        names = []
        for identity in range(_IDENTITIES):
            for value in range(values):
                names.append(f"{identity}_{value}.png")
                picture = Image.fromarray(_picture(identity, 360 * value / values, side))
                picture.save(pathlib.Path(folder, names[-1]))
        group_size = min(settings.batch, values)
        arguments = {
            "folder": folder,
            "names": tuple(names),
            "image_size": settings.image_size,
            "group_size": group_size,
        }
        outcomes = workers.race(
            [
                Candidate(name, f"{__name__}:work", arguments, {"what": name})
                for name in (PACKING, DECODING)
            ],
            rounds=settings.rounds,
            warm_up=settings.warm_up,
            title="packing",
        )
    images = _GROUPS * group_size
    rates = {
        name: images / workers.spread(outcome.seconds).median for name, outcome in outcomes.items()
    }
    rows = [
        row._replace(note=f"{rates[row.candidate]:.0f} images per second")
        for row in sections.time_rows(outcomes, "ms", ours=None)
    ]
    share = workers.ratios(outcomes[DECODING], outcomes[PACKING])
    return Section(
        "packing",
        f"Packing PNG files of {side} x {side} pixels into records of {settings.image_size} x {settings.image_size}",
        rows,
        notes=[
            f"{images} images by one process; dcign-data has one on each core, and they share nothing. The files were "
            "read before and are in the system's cache. Decoding is Pillow's, of the file's colors to grey."
        ],
        verdicts=[
            Verdict(
                "packing is bound by decoding: at least 0.7 times the rate of a bare decode loop",
                f"{share.median:.2f} times ({share.low:.2f} to {share.high:.2f})",
                share.median >= 0.7,
            )
        ],
    )


def work(
    folder: str, names: tuple[str, ...], image_size: int, group_size: int
) -> Callable[[str], None]:
    """A candidate: packs a few groups of `names`, or decodes the same files in the same order."""
    from PIL import Image

    from dcign_tf.datasets import pictures, rendering
    from dcign_tf.datasets.grouping import Grouping, TableGroups
    from dcign_tf.datasets.manifest import Shard
    from dcign_tf.datasets.tables import ImageTable

    shown = np.array([[int(part) for part in name[:-4].split("_")] for name in names])
    table = ImageTable(
        source="pictures made for a benchmark",
        images=pictures.ImageFiles(folder, names),
        factors=("azimuth",),
        values={"azimuth": shown[:, 1].astype(np.float64)},
        units={"azimuth": "degrees"},
        periods={},
        identity=shown[:, 0].astype(np.int64),
        split=tuple("train" if identity < _IDENTITIES - 2 else "test" for identity in shown[:, 0]),
    )
    maker = TableGroups(
        table, Grouping(image_size=image_size, group_size=group_size, split_by="identity")
    )
    planned = rendering.plan(maker, {"train": {"azimuth": _GROUPS}})
    pathlib.Path(folder, "train").mkdir(exist_ok=True)
    packer = rendering.Work(maker, planned.layout, pathlib.Path(folder))
    shard = Shard("train", "azimuth", 0, 1, 0, _GROUPS)
    files = [
        pathlib.Path(folder, names[row])
        for index in range(_GROUPS)
        for row in np.unique(maker.rows("train", "azimuth", index))
    ]

    def decode() -> None:
        for file in files:
            with Image.open(file) as picture:
                np.asarray(picture.convert("L"))

    def pack() -> None:
        packer.make(shard, lambda images: None)

    do = {PACKING: pack, DECODING: decode}
    return lambda what: do[what]()


def _picture(identity: int, angle: float, side: int) -> np.ndarray:
    """A shaded shape before white, about as hard to decode as a rendered chair; uint8 [side, side, 3]."""
    y, x = (np.mgrid[:side, :side] - side / 2) / side
    turn = np.radians(angle)
    along = np.cos(turn) * x + np.sin(turn) * y
    across = np.cos(turn) * y - np.sin(turn) * x
    grain = np.random.default_rng(identity).normal(0, 3, (side, side))
    shade = 140 + 60 * np.sin(40 * along + identity) + grain
    inside = (np.abs(along) < 0.27) & (
        np.abs(across) < 0.08 + 0.02 * identity + 0.06 * (along > 0.1)
    )
    colors = shade[..., np.newaxis] * [1.0, 0.85, 0.7]
    return np.where(inside[..., np.newaxis], colors.clip(0, 255), 255).astype(np.uint8)
