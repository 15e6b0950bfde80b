"""Trains a small network for real while it is killed, starved and lied to, and looks at what becomes of it.

    python -m tests.chaos
    python -m tests.chaos --kills=4 --times=1 --only="killed while it writes a checkpoint,SIGTERM"

Whatever happens, the command must end as docs/faults.md says, the same command must go on, and in the end the weights
must be those of a run that nothing happened to, bit for bit. Prints one line for each kind of fault: how often it was
injected, survived, and lost; the exit status is 1 if any was lost.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import h5py

from tests import faults

ROOT = pathlib.Path(__file__).resolve().parents[1]
STEPS = 300
EVERY = 5
GRACE = 30.0
"""Seconds in which all must be saved: what Kubernetes gives a container by default."""
_PATIENCE = 900.0

_FLAGS = (
    "--image_size=38",
    "--group_size=4",
    "--supersample=1",
    "--encoder_filters=4,4,4",
    "--decoder_filters=4,4,4",
    "--latents=8",
    "--learning_rate=1e-3",
    "--ratio=1,1,1,1",
    "--calibration_images=80",
    f"--checkpoint_every={EVERY}",
    "--summary_every=7",
    "--pictures_every=1000",
    "--steps_per_execution=1",
    "--deterministic",
)
_RENDERED = ("--render_on_the_fly",)
_RECORDED = (
    "--train_groups=8",
    "--validation_groups=2",
    "--test_groups=2",
    "--mixed_images=80",
    "--processes=1",
)


class Lost(Exception):
    """The command did not do what it must; the message says what it did."""


class Trainer:
    """A running dcign-train."""

    def __init__(
        self,
        workdir: pathlib.Path,
        flags: tuple[str, ...],
        code: str = "from dcign_tf.cli import train; train.main_entry()",
        file_size: int | None = None,
        **environment: str,
    ) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it ends with this object.
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *_FLAGS, *flags, f"--workdir={workdir}"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env={**os.environ, **environment},
        )
        if file_size is not None:
            # From outside and at once, long before it writes: code between fork and exec makes subprocess fork in
            # earnest, and what other tests of this process left running (gRPC's threads) does not outlive that.
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (file_size, hard))

    def wait_for(self, condition: Callable[[], Any], seconds: float = _PATIENCE) -> bool:
        """Waits until something is so; False if the process ends before."""
        latest = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None:
                return False
            if time.monotonic() > latest:
                self.kill()
                raise Lost(f"nothing happened for {seconds:.0f} s: {self.errors()[-500:]}")
            time.sleep(0.002)
        return True

    def end(self, seconds: float = _PATIENCE) -> int:
        """Waits for the end; returns the exit status."""
        self.wait_for(lambda: False, seconds)
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def errors(self) -> str:
        """What it wrote to stderr so far."""
        self._errors.flush()
        self._errors.seek(0)
        return self._errors.read()

    def must_end(self, status: int, message: str) -> re.Match[str]:
        """Waits for the end, which must be with this status and a last line that matches.

        Raises:
            Lost: it is another one.
        """
        found = self.end()
        last = (self.errors().strip().splitlines() or [""])[-1]
        match = re.search(message, last)
        if found != status or match is None:
            raise Lost(
                f"status {found}, must be {status}; last line: {last!r}, must match {message!r}"
            )
        return match


def weights(workdir: pathlib.Path) -> str:
    """A fingerprint of all numbers in a run's model.keras."""
    digest = hashlib.sha256()

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            digest.update(f"{name} {item.dtype} {item.shape}".encode())
            digest.update(item[()].tobytes())

    with (
        zipfile.ZipFile(workdir / "model.keras") as archive,
        archive.open("model.weights.h5") as file,
        h5py.File(file) as content,
    ):
        content.visititems(add)
    return digest.hexdigest()


class Chaos:
    """A run that faults are injected into, one after the other; when it ends, another one begins.

    Args:
        folder: where runs are; nothing else is there.
        disk: a small disk that `folder` is on (`faults.small_disk`); None if it is on none.
        seed: of what is random.
        steps: of a run.
        say: gets a line for whatever happens.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        disk: pathlib.Path | None = None,
        seed: int = 0,
        steps: int = STEPS,
        say: Callable[[str], None] = print,
    ) -> None:
        self.counts: dict[str, list[int]] = {}
        self.random = random.Random(seed)
        self._folder, self._disk, self._steps, self._say = folder, disk, steps, say
        self._flags = (*_RENDERED, f"--steps={steps}")
        # Nothing happens to this one. It takes its time while faults are injected into the other.
        self._whole = (disk.parent if disk else folder) / "whole"
        self._whole_trainer = Trainer(self._whole, self._flags)
        self._expected = ""
        self._begin()

    def _run(self, name: str) -> pathlib.Path:
        run = self._folder / name
        run.mkdir()
        return run

    def _begin(self) -> None:
        self._number = getattr(self, "_number", 0) + 1
        self.workdir = self._run(f"run{self._number}")
        self._pending: list[str] = []

    # What the run has come to.

    def checkpoints(self) -> list[pathlib.Path]:
        """The newest first."""
        found = (self.workdir / "checkpoints").glob("ckpt-*")
        return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)

    def unfinished(self) -> bool:
        """Whether a checkpoint is being written, or deleted."""
        return any((self.workdir / "checkpoints").glob(".ckpt-*"))

    def start(self, **how: Any) -> Trainer:
        """Starts the same command as ever."""
        return Trainer(self.workdir, self._flags, **how)

    def under_way(self, **how: Any) -> Trainer | None:
        """Starts it and waits for its first checkpoint; None if it came to its end instead."""
        before = self.checkpoints()
        trainer = self.start(**how)
        if trainer.wait_for(lambda: self.checkpoints()[:1] != before[:1]):
            return trainer
        self._ended(trainer)
        return None

    def finish(self) -> None:
        """Lets the run come to its end, and compares."""
        try:
            while self._pending:
                trainer = self.under_way()
                if trainer is not None:
                    self._ended(trainer)
        except Lost as lost:
            self._lose(lost)

    def _ended(self, trainer: Trainer) -> str:
        """Compares the weights of a run that is through, and begins another one; "", since no fault was injected."""
        status = trainer.end()
        if status:
            raise Lost(f"status {status}: {trainer.errors()[-500:]}")
        if not self._expected:
            if self._whole_trainer.end():
                raise Lost(
                    f"the run that nothing happened to: {self._whole_trainer.errors()[-500:]}"
                )
            self._expected = weights(self._whole)
        same = weights(self.workdir) == self._expected
        for fault in self._pending:
            self.counts[fault][1 if same else 2] += 1
        self._say(f"{self.workdir.name}: ended, weights {'the same' if same else 'DIFFER'}")
        shutil.rmtree(self.workdir)
        self._begin()
        return ""

    # Faults.

    def inject(self, fault: str) -> None:
        """Injects a fault, a key of `FAULTS`, and looks at how the command takes it."""
        count = self.counts.setdefault(fault, [0, 0, 0])
        while True:
            number = self._number
            try:
                happened = FAULTS[fault](self)
            except Lost as lost:
                count[0] += 1
                self._pending.append(fault)
                self._lose(lost)
                return
            if happened:
                break
            assert self._number > number, "a run ended before anything could happen to it"
        count[0] += 1
        self._pending.append(fault)
        self._say(f"{fault}: {happened}")

    def _lose(self, lost: Lost) -> None:
        """Gives up a run, and all that was injected into it: what is left of it proves nothing."""
        self._say(f"LOST: {', '.join(self._pending)}: {lost}")
        for fault in self._pending:
            self.counts[fault][2] += 1
        self._begin()

    def _where(self) -> str:
        newest = self.checkpoints()
        return f"at {newest[0].name if newest else 'no checkpoint'} of {self.workdir.name}"

    def killed_while_starting(self) -> str:
        """Before it does any step: while it imports, reads its checkpoint, compiles."""
        trainer = self.start()
        seconds = self.random.uniform(0, 8)
        with contextlib.suppress(subprocess.TimeoutExpired):
            trainer.process.wait(seconds)
        trainer.kill()
        return f"after {seconds:.1f} s, {self._where()}"

    def killed_while_training(self) -> str:
        """Between two checkpoints, mostly."""
        trainer = self.under_way()
        if trainer is None:
            return ""
        time.sleep(self.random.uniform(0, 1))
        if trainer.process.poll() is not None:
            return self._ended(trainer)
        trainer.kill()
        return self._where()

    def killed_while_writing(self) -> str:
        """In the middle of a checkpoint."""
        trainer = self.under_way()
        if trainer is None:
            return ""
        time.sleep(self.random.uniform(0, 0.5))
        if not trainer.wait_for(self.unfinished):
            return self._ended(trainer)
        time.sleep(self.random.uniform(0, 0.01))
        trainer.kill()
        torn = self.unfinished()
        return f"{self._where()}, {'torn' if torn else 'just finished'}"

    def killed_while_ending(self) -> str:
        """While it calibrates and writes model.keras."""
        trainer = self.start()
        last = self.workdir / "checkpoints" / f"ckpt-{self._steps}"
        trainer.wait_for(last.exists)
        time.sleep(self.random.uniform(0, 1))
        trainer.kill()
        # Should it have been through already, all is well, too.
        return self._where()

    def _signalled(self, number: signal.Signals) -> str:
        trainer = self.under_way()
        if trainer is None:
            return ""
        time.sleep(self.random.uniform(0, 0.5))
        if trainer.process.poll() is not None:
            return self._ended(trainer)
        sent = time.monotonic()
        trainer.process.send_signal(number)
        trainer.wait_for(lambda: "stopped by" in trainer.errors(), GRACE)
        took = time.monotonic() - sent
        match = trainer.must_end(
            128 + number, rf"stopped by {number.name}: the same command resumes from (\S+)$"
        )
        if pathlib.Path(match[1]) != self.checkpoints()[0]:
            raise Lost(f"it names {match[1]}, the newest is {self.checkpoints()[0]}")
        return f"{self._where()}, saved within {took:.2f} s"

    def sigterm(self) -> str:
        """Preemption."""
        return self._signalled(signal.SIGTERM)

    def sigint(self) -> str:
        """Ctrl-C."""
        return self._signalled(signal.SIGINT)

    def damaged(self) -> str:
        """The newest checkpoint, in any way."""
        while len(self.checkpoints()) < 2:
            trainer = self.under_way()
            if trainer is None:
                return ""
            if not trainer.wait_for(lambda: len(self.checkpoints()) >= 2):
                return self._ended(trainer)
            trainer.kill()
        newest, before = self.checkpoints()[:2]
        how = self.random.choice(sorted(faults.DAMAGES))
        faults.DAMAGES[how](newest)
        where = self._where()
        # At once: whatever starts next may replace it.
        trainer = self.under_way()
        if trainer is None:
            return ""
        trainer.kill()
        warning = f"; going on from {before}"
        if warning not in trainer.errors():
            raise Lost(f"no warning {warning!r} in {trainer.errors()!r}")
        return f"{how}, {where}"

    def full_disk(self) -> str:
        """No room for the next checkpoint."""
        assert self._disk is not None
        if not self.checkpoints():
            trainer = self.under_way()
            if trainer is None:
                return ""
            trainer.kill()
        used = shutil.disk_usage(self._disk).used
        faults.resize(self._disk, f"{used // 1000 + 50}k")
        try:
            self._must_be_full(self.start())
        finally:
            faults.resize(self._disk, _ROOM)
        return f"{self._where()}, {used / 1e6:.1f} MB used"

    def _must_be_full(self, trainer: Trainer) -> None:
        trainer.must_end(1, "no space left on the disk .* the same command then (resumes|starts)")
        if self.unfinished():
            raise Lost("what is half there takes up room")

    def file_limit(self) -> str:
        """A limit on the size of files, which no checkpoint keeps to."""
        self._must_be_full(self.start(file_size=20_000))
        return self._where()

    def second_trainer(self) -> str:
        """On the same workdir."""
        first = self.under_way()
        if first is None:
            return ""
        first.process.send_signal(signal.SIGSTOP)  # It must not get through meanwhile.
        try:
            owner = f"process {first.process.pid} on {os.uname().nodename}"
            self.start().must_end(2, f"another trainer is at work in .*: {owner}")
        finally:
            first.process.send_signal(signal.SIGCONT)
            first.kill()
        return self._where()

    def poisoned(self) -> str:
        """NaN in the images of a step that is still to come."""
        newest = self.checkpoints()
        done = int(newest[0].name[5:]) if newest else 0
        if done >= self._steps:
            return self._ended(self.start())
        # Before the next checkpoint: float images, unlike bytes, are rounded before they get to the device.
        step = self.random.randint(done + 1, min(self._steps, (done // EVERY + 1) * EVERY))
        code = "from tests import chaos; chaos.train_poisoned()"
        self.start(code=code, POISONED_STEP=str(step)).must_end(
            1, rf"step {step}: \S+ is not finite, in a group in which \w+ varies.*mend the data"
        )
        return f"step {step}, {self._where()}"

    def other_configuration(self) -> str:
        """Of an older version, or of other flags."""
        path = self.workdir / "config.json"
        if not path.exists():
            trainer = self.under_way()
            if trainer is None:
                return ""
            trainer.kill()
        mine = path.read_bytes()
        config = json.loads(mine)
        kind = self.random.choice(["a setting less", "a setting more", "another value"])
        name = self.random.choice(["latents", "seed", "jit_compile", "beta_1"])
        if kind == "a setting less":
            name = "latents"  # A setting that is missing was what its default is, which this one is not.
            del config["training"][name]
        elif kind == "a setting more":
            name = "dropout"
            config["training"][name] = 0.5
        else:
            config["training"][name] = 17
        path.write_text(json.dumps(config))
        self.start().must_end(2, rf"holds a run of another configuration; these differ: {name} \(")
        path.write_bytes(mine)
        return f"{kind} ({name}), {self._where()}"

    def damaged_record(self) -> str:
        """A byte of the data set is wrong; put right, training goes on. In a run of its own."""
        whole, cut = self._run("recorded"), self._run("recorded_cut")
        data = f"--data={self._folder / 'data'}"
        flags = (*_RECORDED, data, "--steps=20")
        try:
            if Trainer(whole, flags).end():
                raise Lost("an unbroken run failed")
            shards = sorted((self._folder / "data" / "train").glob("azimuth*"))
            shard = self.random.choice(shards)
            mine = shard.read_bytes()
            damaged = bytearray(mine)
            # All but the first, which is looked at before training begins: whichever is read tells.
            length = len(mine) // 8
            for record in range(1, 8):
                damaged[record * length + self.random.randrange(20, length - 4)] ^= 1
            shard.write_bytes(damaged)
            Trainer(cut, flags).must_end(1, f"{shard}: corrupt: .* record 2 of 8 is damaged")
            shard.write_bytes(mine)
            trainer = Trainer(cut, flags)
            if trainer.end():
                raise Lost(f"mended, and yet: {trainer.errors()[-500:]}")
            if weights(whole) != weights(cut):
                raise Lost("other weights")
        finally:
            for folder in (whole, cut, self._folder / "data"):
                shutil.rmtree(folder, ignore_errors=True)
        return shard.name


_ROOM = "400m"

FAULTS: dict[str, Callable[[Chaos], str]] = {
    "killed while it starts": Chaos.killed_while_starting,
    "killed while it trains": Chaos.killed_while_training,
    "killed while it writes a checkpoint": Chaos.killed_while_writing,
    "killed while it ends": Chaos.killed_while_ending,
    "SIGTERM": Chaos.sigterm,
    "SIGINT": Chaos.sigint,
    "damaged checkpoint": Chaos.damaged,
    "full disk": Chaos.full_disk,
    "limit on files": Chaos.file_limit,
    "second trainer": Chaos.second_trainer,
    "NaN in the images": Chaos.poisoned,
    "other configuration": Chaos.other_configuration,
    "damaged record": Chaos.damaged_record,
}
# Of every ten kills.
_KILLS = {
    "killed while it starts": 2,
    "killed while it trains": 3,
    "killed while it writes a checkpoint": 4,
    "killed while it ends": 1,
}


def train_poisoned() -> None:
    """Is dcign-train, but the images of step POISONED_STEP are NaN."""
    import tensorflow as tf

    from dcign_tf.cli import train
    from dcign_tf.datasets.source import RenderedSource

    bad = int(os.environ["POISONED_STEP"]) - 1
    clean = RenderedSource.training

    def training(
        self: Any, ratio: Any, seed: int, groups: int = 1, start: int = 0, *share: Any
    ) -> Any:
        def poison(step: tf.Tensor, element: Any) -> Any:
            images = tf.cast(element[0], tf.float32) / 255
            return images + tf.where(step == bad, float("nan"), 0.0), *element[1:]

        return clean(self, ratio, seed, groups, start, *share).enumerate(start).map(poison)

    setattr(RenderedSource, "training", training)  # noqa: B010 - mypy forbids the plain assignment.
    train.main_entry()


@contextlib.contextmanager
def somewhere() -> Iterator[tuple[pathlib.Path, pathlib.Path | None]]:
    """A folder for a while, on a small disk if that can be had, and that disk."""
    with tempfile.TemporaryDirectory(prefix="dcign-chaos.") as folder:
        if not faults.can_mount():
            yield pathlib.Path(folder), None
            return
        with faults.small_disk(folder, _ROOM) as disk:
            yield disk, disk


def plan(kills: int, times: int, only: list[str], seed: int) -> list[str]:
    """Which faults, in a random order."""
    chosen = [name for name, share in _KILLS.items() for _ in range(round(kills * share / 10))]
    chosen += [name for name in FAULTS if name not in _KILLS for _ in range(times)]
    chosen = [name for name in chosen if not only or name in only]
    random.Random(seed).shuffle(chosen)
    return chosen


def main(arguments: list[str]) -> int:
    """Injects faults and prints what became of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="how many SIGKILLs")
    parser.add_argument("--times", type=int, default=3, help="how often each other fault")
    parser.add_argument("--only", default="", help="names of faults, with commas between")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of what is random")
    options = parser.parse_args(arguments)
    only = [name for name in options.only.split(",") if name]
    if unknown := [name for name in only if name not in FAULTS]:
        parser.error(f"--only: got {unknown[0]!r}, must be some of {', '.join(FAULTS)}")
    # A shell's job in the background ignores SIGINT, and so would all trainers.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(f"seed {options.seed}", flush=True)
    with somewhere() as (folder, disk):
        chaos = Chaos(folder, disk, options.seed, say=lambda line: print(line, flush=True))
        for fault in plan(options.kills, options.times, only, options.seed):
            if fault == "full disk" and disk is None:
                continue  # Only root can have one.
            chaos.inject(fault)
        chaos.finish()
    print(f"\n{'':<38}injected  survived  lost")
    for fault, (injected, survived, lost) in chaos.counts.items():
        print(f"{fault:<38}{injected:>8}{survived:>10}{lost:>6}")
    return int(
        any(lost or survived < injected for injected, survived, lost in chaos.counts.values())
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
