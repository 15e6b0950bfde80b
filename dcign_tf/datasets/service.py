"""Scenes rendered by other processes and on other machines, while training draws them anew every step.

    dcign-data --serve=dispatcher --port=5050
    dcign-data --serve=worker --dispatcher=grpc://127.0.0.1:5050 --image_size=70      (as many as you like)
    dcign-train --render_on_the_fly --data_service=grpc://127.0.0.1:5050 --image_size=70 ...

Workers tell the dispatcher every two seconds that they are there; a trainer asks it who is, and then asks the workers
themselves for groups. A group is a pure function of the scenes' configuration and the group's number, so it does not
matter which worker makes it, nor whether one that was asked has died: another one is asked, and gives the same bytes.
Training sees each group of its stream exactly once, in its order, as if it had rendered them all by itself.

This is why it is not TensorFlow's own `tf.data` service. There a worker runs the pipeline's graph, and a Python
function, such as this renderer, does not go with a graph to another process; the order of what comes back is not fixed;
and what a lost worker was at is lost or given twice.

Messages are JSON, images are their bytes, by gRPC without encryption or passwords: for networks that are your own.
Nothing here needs TensorFlow.
"""

import collections
import concurrent.futures
import ipaddress
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import grpc
import numpy as np

from dcign_tf.errors import DcignError, UsageError

_SERVICE = "dcign_tf.Rendering"
_HEARTBEAT_SECONDS = 2.0
# A worker not heard of for so long is gone.
_SILENCE_SECONDS = 10.0
# For one group; a worker may have some more waiting.
_RENDER_SECONDS = 120.0
# How many workers may fail at one group before it is the group's fault.
_ATTEMPTS = 3

PARALLEL_CALLS = 32
"""How many groups a trainer asks for ahead."""

_SERVER_OPTIONS = (
    ("grpc.so_reuseport", 0),  # Or two servers could share a port and take turns.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
    ("grpc.http2.max_ping_strikes", 0),
)
_CHANNEL_OPTIONS = (
    # A machine that is gone does not say so.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
)


class Sampler(Protocol):
    """What renders: a sampler of `dcign_tf.datasets.samplers`."""

    @property
    def settings(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def factors(self) -> tuple[str, ...]: ...  # noqa: D102

    def group(self, split: str, factor: str, index: int, variant: int = 0) -> Any: ...  # noqa: D102


class Worker(NamedTuple):
    """What a worker says of itself.

    Attributes:
        address: host:port.
        slots: how many groups it renders side by side.
        settings: of its scenes, as JSON has them.
    """

    address: str
    slots: int
    settings: dict[str, Any]


def parse_target(flag: str, target: str) -> str:
    """The host:port of grpc://host:port.

    Raises:
        UsageError: it is something else; the message names the flag.
    """
    match = re.fullmatch(r"grpc://(\[[0-9A-Fa-f:.]+\]|[^\s:/@?#\[\]]+):(\d{1,5})", target)
    if not match or not 0 < int(match[2]) < 65536:
        raise UsageError(f"--{flag}: got {target!r}, must be like grpc://host:5050")
    return f"{match[1]}:{match[2]}"


def scene_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of scenes as JSON gives them back, without the path to files, which differs from machine to machine."""
    return json.loads(json.dumps({k: v for k, v in settings.items() if k != "source_path"}))


# --- The dispatcher --------------------------------------------------------------------------------------


class Dispatcher:
    """Knows which workers there are.

    Args:
        host: the name or address to listen at.
        port: the port; 0 for any that is free.

    Attributes:
        address: where it listens.

    Raises:
        UsageError: it cannot listen there.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._lock = threading.Lock()
        self._heard: dict[str, tuple[float, Worker]] = {}
        self._server, self.address = _serve(
            {"Register": self._register, "Workers": self._list}, host, port, threads=8
        )

    def run(self, report: Callable[[str], None] = lambda line: None) -> None:
        """Waits until `close`; there is nothing to report."""
        del report
        self._server.wait_for_termination()

    def close(self) -> None:
        """Stops listening."""
        self._server.stop(1).wait()

    def _register(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        said = _parse(request, {"host": str, "port": int, "slots": int, "settings": dict}, context)
        host = said["host"] or _peer_host(context.peer())
        worker = Worker(f"{host}:{said['port']}", said["slots"], said["settings"])
        with self._lock:
            self._heard[worker.address] = time.monotonic(), worker
        return b"{}"

    def _list(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        del request, context
        now = time.monotonic()
        with self._lock:
            self._heard = {
                address: (heard, worker)
                for address, (heard, worker) in self._heard.items()
                if now - heard < _SILENCE_SECONDS
            }
            workers = [worker._asdict() for _, worker in self._heard.values()]
        return json.dumps({"workers": workers}).encode()


def _peer_host(peer: str) -> str:
    """The address in gRPC's name of a peer: ipv4:10.0.0.7:41234, ipv6:%5B::1%5D:41234."""
    kind, _, rest = urllib.parse.unquote(peer).partition(":")
    host = rest.rpartition(":")[0]
    return host if kind in ("ipv4", "ipv6") else "127.0.0.1"


# --- The worker ------------------------------------------------------------------------------------------


class RenderingWorker:
    """Renders what trainers ask for, and tells a dispatcher that it does.

    Args:
        sampler: of the scenes.
        dispatcher: its host:port.
        host: the name or address to listen at, by which trainers reach it; or 0.0.0.0 for all of this machine's:
            then trainers use the one by which the dispatcher sees it.
        port: the port; 0 for any that is free.
        slots: how many groups are rendered side by side.

    Attributes:
        address: where it listens.

    Raises:
        UsageError: it cannot listen there.
    """

    def __init__(
        self,
        sampler: Sampler,
        dispatcher: str,
        host: str = "127.0.0.1",
        port: int = 0,
        slots: int = 1,
    ) -> None:
        self._sampler = sampler
        self._settings = scene_settings(sampler.settings)
        self._render_one("train", sampler.factors[0], 0, 0)  # Compiled before anybody waits for it.
        self._server, self.address = _serve({"Render": self._render}, host, port, slots)
        said = {
            "host": "" if host in ("0.0.0.0", "[::]", "::") else host,
            "port": int(self.address.rpartition(":")[2]),
            "slots": slots,
            "settings": self._settings,
        }
        self._said = json.dumps(said).encode()
        self._register = _method(_channel(dispatcher), "Register")
        self.registered = False
        self._stopped = threading.Event()

    def run(self, report: Callable[[str], None] = lambda line: None) -> None:
        """Tells the dispatcher, again and again, until `close`.

        Args:
            report: called with a line when the dispatcher is found, and when it is lost.
        """
        while not self._stopped.is_set():
            try:
                self._register(self._said, timeout=_HEARTBEAT_SECONDS)
                if not self.registered:
                    report("registered with the dispatcher")
                self.registered = True
            except grpc.RpcError as error:
                if self.registered:
                    report(f"lost the dispatcher: {error.details()}; trying on")
                self.registered = False
            self._stopped.wait(_HEARTBEAT_SECONDS)

    def close(self) -> None:
        """Finishes what it is at and ends `run`."""
        self._stopped.set()
        self._server.stop(10).wait()

    def _render(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        kinds = {"settings": dict, "split": str, "factor": str, "index": int, "variant": int}
        asked = _parse(request, kinds, context)
        if asked["settings"] != self._settings:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "renders other scenes")
        try:
            return self._render_one(
                asked["split"], asked["factor"], asked["index"], asked["variant"]
            )
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise

    def _render_one(self, split: str, factor: str, index: int, variant: int) -> bytes:
        return self._sampler.group(split, factor, index, variant).images.tobytes()


# --- The trainer's end -----------------------------------------------------------------------------------


class _Remote:
    """A worker as a trainer sees it."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.busy = 0
        # One more than it has hands for: it should not wait for the next request.
        self.capacity = worker.slots + 1
        self.channel = _channel(worker.address)
        self.render = _method(self.channel, "Render")
        self.trusted_from = 0.0


class RenderingClient:
    """Has groups rendered by workers.

    Args:
        dispatcher: its host:port.
        settings: of the scenes, a sampler's.
        shape: of a group's images, [B, S, S, 1].
        patience: for how many seconds there may be no worker at all.

    Attributes:
        failure: why it gave up; None while it has not.

    Raises:
        DcignError: there are workers, but they all render other scenes; or there was nobody for `patience` seconds.
    """

    def __init__(
        self,
        dispatcher: str,
        settings: Mapping[str, Any],
        shape: tuple[int, ...],
        patience: float = 300.0,
    ) -> None:
        self.failure: DcignError | None = None
        self._dispatcher = dispatcher
        self._settings = scene_settings(settings)
        self._shape = shape
        self._patience = patience
        self._ask = _method(_channel(dispatcher), "Workers")
        self._remotes: dict[str, _Remote] = {}
        self._others: list[Worker] = []
        self._problem = "it lists no workers"
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._refresh()
        threading.Thread(target=self._keep_up, daemon=True).start()
        if not self._remotes and self._others:
            raise self._wrong_scenes()

    def close(self) -> None:
        """Asks for nothing more."""
        self._closed.set()
        with self._changed:
            for remote in self._remotes.values():
                remote.channel.close()

    def draw(self, split: str, factor: str, index: int, variant: int) -> np.ndarray:
        """The images of a group, uint8 [B, S, S, 1], as the sampler would render them here; from many threads.

        Raises:
            DcignError: no worker was there for too long, or several of them failed to render the group.
        """
        what = {"split": split, "factor": factor, "index": index, "variant": variant}
        request = json.dumps({"settings": self._settings, **what}).encode()
        complaints: collections.deque[str] = collections.deque(maxlen=_ATTEMPTS)
        while True:
            remote = self._acquire()
            try:
                reply = remote.render(request, timeout=_RENDER_SECONDS)
                if len(reply) == np.prod(self._shape):
                    return np.frombuffer(reply, np.uint8).reshape(self._shape)
                complaint = f"{remote.worker.address} sent {len(reply)} bytes"
            except grpc.RpcError as error:
                complaint = f"{remote.worker.address}: {error.code().name}: {error.details()}"
                if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    # Gone, or going: that says nothing about the group.
                    remote.trusted_from = time.monotonic() + _HEARTBEAT_SECONDS
                    continue
            except ValueError:  # What gRPC says of a channel that was closed meanwhile.
                continue
            finally:
                self._release(remote)
            complaints.append(complaint)
            if len(complaints) == _ATTEMPTS:
                raise self._fail(
                    f"--data_service: no worker could render group {index} of {factor}: "
                    f"{'; '.join(complaints)}"
                )

    def _acquire(self) -> _Remote:
        """The worker with the most time; waits for one."""
        since = time.monotonic()
        with self._changed:
            while True:
                if self.failure is not None:
                    raise self.failure
                now = time.monotonic()
                there = [r for r in self._remotes.values() if r.trusted_from <= now]
                free = [r for r in there if r.busy < r.capacity]
                if free:
                    remote = min(free, key=lambda r: r.busy / r.capacity)
                    remote.busy += 1
                    return remote
                if there:
                    since = now  # They are busy, which is as it should be.
                elif self._others and not self._remotes:
                    raise self._wrong_scenes()
                elif now - since > self._patience:
                    raise self._fail(
                        f"--data_service: found no worker for {self._patience:.0f} seconds at the dispatcher "
                        f"{self._dispatcher}: {self._problem}. Start some with dcign-data --serve=worker; the same "
                        "command then resumes"
                    )
                self._changed.wait(0.2)

    def _release(self, remote: _Remote) -> None:
        with self._changed:
            remote.busy -= 1
            self._changed.notify()

    def _fail(self, message: str) -> DcignError:
        self.failure = self.failure or DcignError(message)
        return self.failure

    def _wrong_scenes(self) -> DcignError:
        worker = self._others[0]
        names = sorted(self._settings.keys() | worker.settings.keys())
        differing = [
            f"{name} (there {worker.settings.get(name)}, here {self._settings.get(name)})"
            for name in names
            if worker.settings.get(name) != self._settings.get(name)
        ]
        return self._fail(
            f"--data_service: the worker at {worker.address} renders other scenes; these differ: "
            f"{'; '.join(differing)}. Start workers with the same flags as the training"
        )

    def _keep_up(self) -> None:
        while not self._closed.wait(_HEARTBEAT_SECONDS):
            self._refresh()

    def _refresh(self) -> None:
        """Asks the dispatcher who is there. While it is away, the workers that were known will do."""
        try:
            answer = json.loads(self._ask(b"{}", timeout=5))
            listed = [
                Worker(str(w["address"]), int(w["slots"]), dict(w["settings"]))
                for w in answer["workers"]
            ]
        except grpc.RpcError as error:
            self._problem = f"it does not answer ({error.details()})"
            return
        except (ValueError, KeyError, TypeError) as error:
            self._problem = f"what answers there is no dispatcher ({error})"
            return
        with self._changed:
            self._problem = "it lists no workers"
            ours = {w.address: w for w in listed if w.settings == self._settings}
            self._others = [w for w in listed if w.address not in ours]
            for address in self._remotes.keys() - ours.keys():
                self._remotes.pop(address).channel.close()
            for address, worker in ours.items():
                if address not in self._remotes:
                    self._remotes[address] = _Remote(worker)
            self._changed.notify_all()


# --- gRPC ------------------------------------------------------------------------------------------------


def _serve(
    methods: Mapping[str, Callable[[bytes, grpc.ServicerContext], bytes]],
    host: str,
    port: int,
    threads: int,
) -> tuple[grpc.Server, str]:
    """A server that answers bytes with bytes, and where it listens."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(threads), options=_SERVER_OPTIONS)
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(function) for name, function in methods.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    shown = f"[{host}]" if _is_ipv6(host) else host
    try:
        bound = server.add_insecure_port(f"{shown}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise UsageError(
            f"--port: cannot listen at {shown}:{port}: another program does, or --host is not this machine"
        )
    server.start()
    return server, f"{shown}:{bound}"


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _channel(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)


def _method(channel: grpc.Channel, name: str) -> Callable[..., bytes]:
    return channel.unary_unary(f"/{_SERVICE}/{name}")


def _parse(
    request: bytes, kinds: Mapping[str, type], context: grpc.ServicerContext
) -> dict[str, Any]:
    """A message's fields; answers with an error where they are not as they must be."""
    try:
        message = json.loads(request)
        for name, kind in kinds.items():
            if type(message[name]) is not kind:
                raise ValueError(f"{name}: got {message[name]!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a request of this service: {error}")
        raise
    return message
