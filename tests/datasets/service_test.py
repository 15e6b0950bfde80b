import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcign_tf.datasets import service
from dcign_tf.datasets.scenes import SceneConfig, SceneSampler
from dcign_tf.datasets.service import Dispatcher, RenderingClient, RenderingWorker, parse_target
from dcign_tf.datasets.source import RenderedSource, explain_data_error
from dcign_tf.errors import DcignError, UsageError
from tests import clusters

CONFIG = SceneConfig(image_size=30, group_size=3, supersample=1)
FLAGS = ("--image_size=30", "--group_size=3", "--supersample=1")
SHAPE = (3, 30, 30, 1)
SETTINGS = {"image_size": 30, "source_path": "/somewhere/else", "range": (1, 2)}


class Painter:
    """A sampler that takes no time: its images tell which group they are."""

    factors = ("azimuth", "intrinsic")

    def __init__(self, problem=None, **settings):
        self.settings = {**SETTINGS, **settings}
        self.asked = []
        self._problem = problem

    def group(self, split, factor, index, variant=0):
        if index and self._problem:
            raise self._problem
        self.asked.append((split, factor, index, variant))
        images = np.full(SHAPE, index % 251, np.uint8)
        return type("Group", (), {"images": images})


@contextlib.contextmanager
def dispatching():
    dispatcher = Dispatcher()
    try:
        yield dispatcher.address
    finally:
        dispatcher.close()


@contextlib.contextmanager
def working(dispatcher, sampler, **arguments):
    worker = RenderingWorker(sampler, dispatcher, **arguments)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        while not worker.registered:
            time.sleep(0.01)
        yield worker
    finally:
        worker.close()
        thread.join()


@contextlib.contextmanager
def asking(dispatcher, patience=60.0):
    client = RenderingClient(dispatcher, SETTINGS, SHAPE, patience)
    try:
        yield client
    finally:
        client.close()


def draw_all(client, count):
    """Groups 1, 2, ... as several threads get them."""
    images = [None] * count

    def draw(first):
        for i in range(first, count, 4):
            images[i] = client.draw("train", "azimuth", i + 1, 1)

    threads = [threading.Thread(target=draw, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return images


@contextlib.contextmanager
def serving(*arguments):
    """A dcign-data --serve as a process; yields it and the address it says."""
    command = ["-m", "dcign_tf.cli.data", *arguments]
    with clusters.processes(command, [{}]) as (process,):
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.fullmatch(r"\w+: listening at (grpc://127.0.0.1:\d+)\n", line)
        assert address, line + process.stdout.read()
        yield process, address[1]


def test_a_dispatcher_and_two_workers_as_processes_render_what_one_would_and_survive_a_death():
    ratio = dict.fromkeys(("azimuth", "light_azimuth", "intrinsic"), 1.0)
    own = RenderedSource(CONFIG)
    with serving("--serve=dispatcher") as (dispatcher, target):
        worker = ("--serve=worker", f"--dispatcher={target}", *FLAGS, "--processes=1")
        with serving(*worker) as (first, _), serving(*worker) as (second, _):
            for process in (first, second):
                assert process.stdout.readline() == "worker: registered with the dispatcher\n"
            elsewhere = RenderedSource(CONFIG, data_service=target.removeprefix("grpc://"))
            assert elsewhere.description == own.description
            elements = [
                source.training(ratio, seed=3, groups_per_step=2, start_step=5)
                .take(60)
                .as_numpy_iterator()
                for source in (own, elsewhere)
            ]
            for step, (ours, theirs) in enumerate(zip(*elements, strict=True)):
                np.testing.assert_array_equal(ours[0], theirs[0])
                np.testing.assert_array_equal(ours[1], theirs[1])
                if step == 10:
                    first.kill()
            assert first.wait() == -signal.SIGKILL
            # Asked to go, they go.
            for process in (second, dispatcher):
                process.terminate()
                assert process.wait(timeout=60) == 0


def test_work_is_shared_out_and_each_group_is_rendered_once():
    painters = [Painter(), Painter()]
    with (
        dispatching() as address,
        working(address, painters[0], slots=2),
        working(address, painters[1], slots=2),
        asking(address) as client,
    ):
        images = draw_all(client, 40)
    for number, image in enumerate(images, 1):
        assert image.shape == SHAPE and image.dtype == np.uint8 and (image == number).all()
    # Beside the one that each made to be ready.
    asked = [group for painter in painters for group in painter.asked if group[2]]
    assert sorted(asked) == [("train", "azimuth", number, 1) for number in range(1, 41)]
    assert all(len(painter.asked) > 5 for painter in painters)


def test_workers_that_come_late_are_waited_for_and_a_dispatcher_may_restart():
    (port,) = clusters.free_ports(1)
    address = f"127.0.0.1:{port}"
    with asking(address) as client:
        drawn = []
        thread = threading.Thread(
            target=lambda: drawn.append(client.draw("train", "azimuth", 7, 1))
        )
        thread.start()
        for _ in range(2):
            dispatcher = Dispatcher(port=port)
            try:
                with working(address, Painter()):
                    thread.join(timeout=60)
                    assert (drawn[0] == 7).all()
                    (image,) = draw_all(client, 1)
                    assert (image == 1).all()
            finally:
                dispatcher.close()


def test_other_scenes_are_refused_with_what_differs():
    other = Painter(image_size=31)
    with dispatching() as address, working(address, other), pytest.raises(DcignError) as error:
        RenderingClient(address, SETTINGS, SHAPE)
    assert "renders other scenes; these differ: image_size (there 31, here 30)." in str(error.value)


def test_where_nobody_renders_that_is_said():
    with dispatching() as address, asking(address, 0.5) as client:
        with pytest.raises(
            DcignError, match="no worker for 0 seconds .*: it lists no workers. Start"
        ):
            client.draw("train", "azimuth", 1, 1)
        # Whoever asks next need not wait again.
        with pytest.raises(DcignError, match="it lists no workers"):
            client.draw("train", "azimuth", 2, 1)
    (port,) = clusters.free_ports(1)
    with (
        asking(f"127.0.0.1:{port}", 0.5) as client,
        pytest.raises(DcignError, match="it does not answer"),
    ):
        client.draw("train", "azimuth", 1, 1)


def test_a_group_that_nobody_can_render_ends_the_training_with_a_reason():
    source = RenderedSource(CONFIG)
    assert explain_data_error(source, ValueError()) is None
    with (
        dispatching() as address,
        working(address, Painter(MemoryError("too many triangles"))),
        asking(address) as client,
    ):
        with pytest.raises(DcignError, match="could render group 5 of azimuth: .*triangles"):
            client.draw("train", "azimuth", 5, 1)
        source._client = client
        assert "triangles" in str(explain_data_error(source, ValueError()))
    with (
        dispatching() as address,
        working(address, Painter(ValueError("index: got -1"))),
        asking(address) as client,
        pytest.raises(DcignError, match="INVALID_ARGUMENT: index: got -1"),
    ):
        client.draw("train", "azimuth", -1, 1)


@given(st.binary() | st.recursive(
    st.none() | st.integers() | st.text(), lambda e: st.lists(e) | st.dictionaries(
        st.sampled_from(["host", "port", "slots", "settings"]), e)
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_messages_of_any_kind_are_understood_or_refused(message):
    class Context:
        def abort(self, code, details):
            assert code == grpc.StatusCode.INVALID_ARGUMENT
            raise PermissionError(details)

    kinds = {"host": str, "port": int, "slots": int, "settings": dict}
    try:
        understood = service._parse(message, kinds, Context())
    except PermissionError as error:
        assert "not a request of this service" in str(error)
    else:
        assert all(type(understood[name]) is kind for name, kind in kinds.items())


@given(st.text() | st.from_regex(r"grpc://[a-z\[\]:.0-9]{0,9}:\d{0,6}", fullmatch=True))
def test_targets_are_a_host_and_a_port(text):
    try:
        address = parse_target("data_service", text)
    except UsageError as error:
        assert "--data_service: got" in str(error)
    else:
        assert text == f"grpc://{address}" and 0 < int(address.rpartition(":")[2]) < 65536


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.7:41234", "10.0.0.7"),
        ("ipv6:%5B::1%5D:41234", "[::1]"),
        ("unix:", "127.0.0.1"),
    ],
)
def test_workers_are_known_by_the_address_that_the_dispatcher_sees(peer, host):
    assert service._peer_host(peer) == host


def test_a_port_that_is_taken_is_told():
    with dispatching() as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(UsageError, match="--port: cannot listen at 127.0.0.1:"):
            Dispatcher(port=port)


def test_workers_need_no_tensorflow():
    code = (
        "import sys, dcign_tf.datasets.service, dcign_tf.cli.data\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=clusters.ROOT, check=True)


def test_a_samplers_settings_survive_the_journey():
    settings = SceneSampler(CONFIG).settings
    assert service.scene_settings(settings) == json.loads(
        json.dumps(service.scene_settings(settings))
    )
