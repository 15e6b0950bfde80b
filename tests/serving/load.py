"""Many clients at once ask a model server, rightly and wrongly, and compare every answer with the model's own.

    python -m tests.serving.load --seconds=300 --clients=50 --model=saved_models/faces

starts the stand-in of `model_server` in a process of its own; where TF_SERVING_URL is set (see `served`) the server
there is asked. Each client is a thread that asks, waits for the answer, and asks again: one request in five is
malformed. No request is sent twice, so whatever goes wrong is seen. Prints a table in Markdown; the exit status is 1
if an answer was wrong or missing, if something malformed was not refused, or if the server's memory grew by more than
a twentieth between the second fifth of the time and the last.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import io
import json
import os
import pathlib
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import urllib3
from PIL import Image

from dcign_tf.serving import Client, engine
from dcign_tf.serving.server_address import parse_address
from dcign_tf.serving.server_errors import RequestRefused

_POOL = 12  # different requests of each kind
_MALFORMED = 0.2
_TIMEOUT = 120.0
_MAY_GROW = 1.05
_INTERFACES = ("REST", "gRPC")


class _Request(NamedTuple):
    """Something to ask, and what the answer must be; None where it must be refused."""

    kind: str
    ask: Callable[["_Asker"], Any]
    expected: Any
    interface: str = ""  # Where it is not the client's own.


class _Asker(NamedTuple):
    """What one thread asks with."""

    client: Client
    raw: urllib3.HTTPConnectionPool
    path: str


class Outcome(NamedTuple):
    """What became of one request."""

    kind: str
    interface: str
    seconds: float
    verdict: str  # "right", "wrong" or "lost"
    detail: str


@dataclasses.dataclass(frozen=True)
class Result:
    """A run.

    Attributes:
        seconds: how long it took.
        first: what became of one request of each kind by each interface, before the time began: what a server does
            for the first time takes longer.
        outcomes: of all requests after that, one each.
        memory: of the server's process, MB, one a second; none where it is not ours.
        clients: how many there were.
        about: server, model and machine.
    """

    seconds: float
    first: Sequence[Outcome]
    outcomes: Sequence[Outcome]
    memory: Sequence[float]
    clients: int
    about: str

    @property
    def bad(self) -> list[Outcome]:
        """What was answered wrongly, or not at all."""
        everything = [*self.first, *self.outcomes]
        return [outcome for outcome in everything if outcome.verdict != "right"]

    @property
    def growth(self) -> float:
        """The server's memory in the last fifth of the time over that in the second fifth."""
        fifth = len(self.memory) // 5
        if not fifth:
            return 1.0
        return statistics.median(self.memory[-fifth:]) / statistics.median(
            self.memory[fifth : 2 * fifth]
        )

    def table(self) -> str:
        """The run in Markdown."""
        rows: dict[tuple[str, str], list[Outcome]] = collections.defaultdict(list)
        for outcome in self.outcomes:
            rows[outcome.interface, outcome.kind].append(outcome)
        lines = [
            self.about,
            "",
            "| interface | request | count | median | 90 % | 99 % | longest | wrong | lost |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        everything = [(("all", "all"), list(self.outcomes))]
        for (interface, kind), outcomes in sorted(rows.items()) + everything:
            took = np.array([outcome.seconds for outcome in outcomes]) * 1e3
            times = " | ".join(
                f"{value:.0f} ms" for value in np.percentile(took, [50, 90, 99, 100])
            )
            verdicts = collections.Counter(outcome.verdict for outcome in outcomes)
            lines.append(
                f"| {interface} | {kind} | {len(outcomes)} | {times} | {verdicts['wrong']} | {verdicts['lost']} |"
            )
        rate = len(self.outcomes) / self.seconds
        lines += [
            "",
            f"{self.clients} clients, {self.seconds:.0f} s, {rate:.1f} requests a second.",
        ]
        if self.memory:
            lines.append(
                f"The server's memory: {self.memory[0]:.0f} MB at first, {max(self.memory):.0f} MB at most, "
                f"{self.memory[-1]:.0f} MB at last; last fifth over second fifth: {self.growth:.3f}."
            )
        return "\n".join(lines)


def run(
    seconds: float, clients: int, folder: pathlib.Path, rest: str, grpc: str, pid: int | None
) -> Result:
    """Asks for a while.

    Args:
        seconds: how long.
        clients: threads; every other one asks by REST.
        folder: of the model's versions, as the server has them.
        rest: the server's REST address.
        grpc: its gRPC address.
        pid: of the server's process, if it runs here.
    """
    local = engine.open_engine(folder)
    requests = _requests(local)
    outcomes: list[Outcome] = []
    memory: list[float] = []
    over = threading.Event()

    @contextlib.contextmanager
    def asking(interface: str) -> Iterator[_Asker]:
        address = parse_address(rest)
        raw = urllib3.HTTPConnectionPool(address.host, address.port, retries=False)
        url = rest if interface == _INTERFACES[0] else grpc
        with Client(url, folder.name, timeout=_TIMEOUT, retries=0) as client, raw:
            yield _Asker(client, raw, f"/v1/models/{folder.name}:predict")

    def work(number: int) -> None:
        interface = _INTERFACES[number % 2]
        rng = random.Random(number)
        with asking(interface) as asker:
            while not over.is_set():
                kinds = requests[rng.random() < _MALFORMED]
                request = rng.choice(kinds[rng.choice(list(kinds))])
                outcomes.append(_ask(request, asker, interface))

    first = []
    for interface in _INTERFACES:
        with asking(interface) as asker:
            for kinds in requests:
                first += [_ask(kind[0], asker, interface) for kind in kinds.values()]
    threads = [threading.Thread(target=work, args=[number]) for number in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    while time.monotonic() - began < seconds:
        if pid is not None:
            memory.append(_resident(pid))
        time.sleep(min(1.0, max(0.0, began + seconds - time.monotonic())))
    over.set()
    for thread in threads:
        thread.join()
    side, cores = local.image_size, os.cpu_count()
    server = "the stand-in for TensorFlow Serving" if pid is not None else f"the server at {rest}"
    about = (
        f"{folder.name}, {side} x {side} pixels, on {server}; {cores} cores, {platform.system()}."
    )
    return Result(time.monotonic() - began, first, outcomes, memory, clients, about)


def _ask(request: _Request, asker: _Asker, interface: str) -> Outcome:
    began = time.perf_counter()
    verdict, detail = "right", ""
    try:
        answer = request.ask(asker)
    except RequestRefused as error:
        if request.expected is not None:
            verdict, detail = "lost", str(error)
    except Exception as error:
        verdict, detail = "lost", repr(error)
    else:
        if request.expected is None or not _same(answer, request.expected):
            verdict, detail = "wrong", f"{request.kind}: {str(answer)[:100]}"
    return Outcome(
        request.kind, request.interface or interface, time.perf_counter() - began, verdict, detail
    )


def _same(answer: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return all(np.allclose(answer[key], expected[key], atol=1e-2) for key in expected)
    if isinstance(expected, list):
        return len(answer) == len(expected) and all(
            np.abs(_pixels(a) - _pixels(b)).max() <= 1
            for a, b in zip(answer, expected, strict=True)
        )
    return answer.shape == expected.shape and np.allclose(answer, expected, atol=1e-4)


def _pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)), np.int32)


def _requests(local: engine.Engine) -> tuple[dict[str, list[_Request]], dict[str, list[_Request]]]:
    """What is asked, by kind: first what makes sense, then what does not."""
    functions = local.owner.signatures  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    side = local.image_size
    good: dict[str, list[_Request]] = collections.defaultdict(list)
    bad: dict[str, list[_Request]] = collections.defaultdict(list)

    latents = functions["decode"].structured_input_signature[1]["codes"].shape[1]

    def call(name: str, **inputs: Any) -> dict[str, Any]:
        tensors = {key: tf.constant(value) for key, value in inputs.items()}
        return {key: value.numpy() for key, value in functions[name](**tensors).items()}

    def add(kind: str, method: str, arguments: tuple[Any, ...], expected: Any) -> None:
        def ask(asker: _Asker) -> Any:
            return getattr(asker.client, method)(*arguments)

        (bad if expected is None else good)[kind].append(_Request(kind, ask, expected))

    for number in range(_POOL):
        images = _smooth(rng, 1 + number % 4, side)
        values = {f: rng.uniform(*ends) for f, ends in local.factor_ranges.items()}
        values[list(values)[number % len(values)]] = float("nan")
        contents = [_png(image) for image in _smooth(rng, 1 + number % 2, side + 7)]
        codes = rng.normal(size=[1 + number % 3, latents]).astype(np.float32)
        many = {f: np.full(len(contents), v, np.float32) for f, v in values.items()}
        factor, (low, high) = list(local.factor_ranges.items())[number % len(local.factor_ranges)]
        wrong = {factor: 2 * high - low}
        read = call("encode_bytes", image_bytes=contents)
        add("re-render arrays", "rerender", (images, values), local.rerender(images, values))
        add("infer from arrays", "infer", (images,), local.infer(images))
        add("reconstruct arrays", "reconstruct", (images,), local.reconstruct(images))
        add("decode", "decode", (codes,), call("decode", codes=codes)["images"])
        drawn = call("rerender_bytes", image_bytes=contents, **many)["image_bytes"]
        add("re-render files", "rerender", (contents, values), list(drawn))
        add("infer from files", "infer", (contents,), {f: read[f] for f in local.factor_ranges})
        add("malformed: out of range", "rerender", (images, wrong), None)
        add("malformed: no pixels", "infer", (images + np.nan,), None)
        add("malformed: code", "decode", (codes[:, :-1],), None)
        add("malformed: no picture", "infer", ([contents[0][: 20 + number]],), None)
    bodies = [
        b"",
        b"{",
        b"\xff" * 50,
        b"[" * 3000,
        b'{"instances": []}',
        b'{"signature_name": "nothing", "instances": [1]}',
        b'{"signature_name": "reconstruct", "instances": ["text"]}',
        b'{"signature_name": "reconstruct", "inputs": [[[0.5]]]}',
        b'{"signature_name": "reconstruct", "inputs": [[[[1, 2, 3]]], [[[1]]]]}',
        b'{"signature_name": "decode", "inputs": [[1e999]]}',
        b'{"signature_name": "encode_bytes", "instances": [{"b64": "%%%%"}]}',
    ]
    for body in bodies:
        ask = functools.partial(_post, body=body)
        bad["malformed: body"].append(_Request("malformed: body", ask, None, "REST"))
    bad["malformed: hangs up"].append(_Request("malformed: hangs up", _hang_up, None, "REST"))
    return good, bad


def _post(asker: _Asker, body: bytes) -> Any:
    """Sends a body that means nothing."""
    answer = asker.raw.urlopen("POST", asker.path, body, timeout=_TIMEOUT)
    if answer.status == 400 and json.loads(answer.data)["error"]:
        raise RequestRefused("as it should")
    return answer.status


def _hang_up(asker: _Asker) -> Any:
    """Begins a request and goes away, which nobody can refuse; then sees whether the server still answers."""
    with socket.create_connection((asker.raw.host, asker.raw.port), _TIMEOUT) as connection:
        connection.sendall(f"POST {asker.path} HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{{".encode())
    return _post(asker, b"{")


def _smooth(rng: np.random.Generator, count: int, side: int) -> np.ndarray:
    """Blurred noise; float32 [N, side, side, 1] in [0, 1]."""
    small = [Image.fromarray(rng.random([6, 6], np.float32)) for _ in range(count)]
    large = [np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)) for image in small]
    return np.clip(np.stack(large), 0, 1)[..., np.newaxis]


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((image[..., 0] * 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _resident(pid: int) -> float:
    """The memory of a process, MB; Linux only, 0 elsewhere."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1000
    return 0.0


@contextlib.contextmanager
def stand_in(folder: pathlib.Path) -> Iterator[tuple[str, str, int]]:
    """Runs the stand-in in a process of its own: its two addresses and its number."""
    command = [
        sys.executable,
        "-m",
        "tests.serving.model_server",
        f"--model={folder.name}={folder}",
    ]
    root = pathlib.Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=root
    )
    assert process.stdin and process.stdout
    try:
        running = json.loads(process.stdout.readline())
        yield running["rest"], running["grpc"], process.pid
    finally:
        process.stdin.close()  # At which it ends.
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextlib.contextmanager
def tiny_model() -> Iterator[pathlib.Path]:
    """A folder with one version of a model that has learned nothing."""
    from dcign_tf.serving import export
    from tests.serving import tiny

    with tempfile.TemporaryDirectory() as root:
        yield export.export(tiny.model(), "faces", output=root).parent


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument(
        "--model", type=pathlib.Path, help="a folder of versions; by default a tiny model"
    )
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        url = os.environ.get("TF_SERVING_URL")
        if url:
            folder = pathlib.Path(os.environ["TF_SERVING_MODEL"])
            host = parse_address(url).host
            grpc = os.environ.get("TF_SERVING_GRPC_URL", f"grpc://{host}:8500")
            where: tuple[str, str, int | None] = (url, grpc, None)
        else:
            folder = arguments.model or stack.enter_context(tiny_model())
            where = stack.enter_context(stand_in(folder.resolve()))
        result = run(arguments.seconds, arguments.clients, folder.resolve(), *where)
    print(result.table())
    for outcome in result.bad[:20]:
        print(f"{outcome.verdict}: {outcome.interface}, {outcome.kind}: {outcome.detail}")
    return int(bool(result.bad) or result.growth > _MAY_GROW)


if __name__ == "__main__":
    sys.exit(main())
