"""Trains a small network for a long while and watches what it takes: memory, file handles, threads.

    python -m tests.soak
    python -m tests.soak --steps=4000 --output=soak.png

Scenes are rendered on the fly. Prints for each quantity its slope over the second half of the run, in which nothing is
getting ready any more, and draws all of it. Needs Linux's /proc.
"""

import argparse
import dataclasses
import io
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from dcign_tf import files

ROOT = pathlib.Path(__file__).resolve().parents[1]
STEPS = 2000
PICTURE = "docs/pictures/soak.png"
_EVERY = 0.25  # seconds

UNITS = {"memory": "MB", "file handles": "", "threads": ""}
# What a thousand steps may add and still be nothing that grows: an allocator's and a sampling's noise.
ALLOWED = {"memory": 5.0, "file handles": 0.5, "threads": 0.5}


@dataclasses.dataclass(frozen=True)
class Soak:
    """What was seen.

    Attributes:
        steps: how many steps had been done at each look, float [N].
        seen: for each of UNITS what there was then, float [N].
    """

    steps: np.ndarray
    seen: Mapping[str, np.ndarray]

    def slopes(self) -> dict[str, float]:
        """How much each grows in a thousand steps, by least squares over the second half."""
        late = self.steps >= self.steps[-1] / 2
        return {
            name: float(1000 * np.polyfit(self.steps[late], values[late], 1)[0])
            for name, values in self.seen.items()
        }

    def lines(self) -> list[str]:
        """What is printed."""
        lines = []
        for name, slope in self.slopes().items():
            values, unit = self.seen[name], f" {UNITS[name]}".rstrip()
            lines.append(
                f"{name}: {values[-1]:.0f}{unit} at the end, at most {values.max():.0f}{unit}; "
                f"slope {slope:+.2f}{unit} per 1000 steps"
            )
        return lines


def look(process: int) -> dict[str, float]:
    """What a process takes now."""
    status = pathlib.Path(f"/proc/{process}/status").read_text()

    def number(key: str) -> float:
        return float(status.partition(f"\n{key}:")[2].split()[0])

    handles = len(list(pathlib.Path(f"/proc/{process}/fd").iterdir()))
    return {
        "memory": number("VmRSS") * 1024 / 1e6,
        "file handles": handles,
        "threads": number("Threads"),
    }


_TRAIN = """
import sys
from dcign_tf import processes, training
from dcign_tf.datasets.scenes import SceneConfig
from dcign_tf.datasets.source import RenderedSource
processes.share_memory_pool()
config = training.TrainingConfig(
    encoder_filters=(8, 8, 8), decoder_filters=(8, 8, 8), latents=20, steps=int(sys.argv[2]), learning_rate=1e-3,
    checkpoint_every=100, summary_every=20, pictures_every=200, calibration_images=100,
)
run = training._make_runner

def telling(*arguments):
    work, done = run(*arguments), 0
    def tell(count):
        nonlocal done
        outcome = work(count)
        done += count
        print(done, flush=True)
        return outcome
    return tell

training._make_runner = telling
source = RenderedSource(SceneConfig(image_size=38, group_size=10, supersample=1))
training.train(config, source, sys.argv[1])
"""


def soak(steps: int = STEPS) -> Soak:
    """Trains, and looks at the process four times a second."""
    with (
        tempfile.TemporaryDirectory(prefix="dcign-soak.") as folder,
        subprocess.Popen(
            [sys.executable, "-c", _TRAIN, folder, str(steps)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        done = 0

        def listen() -> None:
            nonlocal done
            assert process.stdout is not None
            for line in process.stdout:
                done = int(line)

        listener = threading.Thread(target=listen)
        listener.start()
        looks: list[tuple[int, dict[str, float]]] = []
        while process.poll() is None and done < steps:
            # Before the first step it is not training yet.
            if done and (not looks or done > looks[-1][0]):
                looks.append((done, look(process.pid)))
            time.sleep(_EVERY)
        listener.join()
        if process.wait():
            raise SystemExit(f"training ended with status {process.returncode}")
    return Soak(
        np.array([done for done, _ in looks], float),
        {name: np.array([seen[name] for _, seen in looks]) for name in UNITS},
    )


def draw(soaked: Soak) -> bytes:
    """A PNG: each quantity over the steps, from zero on."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.8), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    slopes = soaked.slopes()
    for panel, (name, values) in zip(
        figure.subplots(1, len(soaked.seen)), soaked.seen.items(), strict=True
    ):
        panel.plot(soaked.steps, values, color="#2a6f97", linewidth=1.5)
        unit = f" {UNITS[name]}".rstrip()
        panel.set_title(f"{name}\n{slopes[name]:+.2f}{unit} per 1000 steps", fontsize=10)
        panel.set(xlabel="step", xlim=(0, soaked.steps[-1]), ylim=(0, 1.15 * values.max()))
        if UNITS[name]:
            panel.set_ylabel(UNITS[name])
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def main(arguments: list[str], run: Callable[[int], Soak] = soak) -> int:
    """Soaks, prints and draws."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS, help="of training")
    parser.add_argument("--output", default=str(ROOT / PICTURE), help="where to draw; a PNG")
    options = parser.parse_args(arguments)
    soaked = run(options.steps)
    print("\n".join(soaked.lines()))
    with files.atomic_write(options.output) as file:
        file.write(draw(soaked))
    grown = [name for name, slope in soaked.slopes().items() if slope > ALLOWED[name]]
    if grown:
        print(f"it grows: {', '.join(grown)}")
    return int(bool(grown))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
