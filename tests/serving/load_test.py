"""No answer is lost or wrong when several clients ask at once, rightly and wrongly; see `load`."""

import os
import subprocess
import sys

import pytest

from tests.serving import load, served


def test_a_few_clients_for_a_moment() -> None:
    there = served.served()
    result = load.run(10, 8, there.folder, there.rest, there.grpc, None)
    assert not result.bad, "\n".join(map(str, result.bad[:9]))
    assert len({outcome.kind for outcome in result.first}) == 12
    assert len(result.outcomes) >= 8
    assert "8 clients, 1" in result.table()


def test_what_goes_wrong_is_counted() -> None:
    fine = load.Outcome("decode", "REST", 0.1, "right", "")
    bad = [fine._replace(verdict="wrong"), fine._replace(verdict="lost", interface="gRPC")]
    flat, growing = [100.0] * 50, [100.0 + i for i in range(50)]
    result = load.Result(10, [], [fine, *bad], growing, 2, "Here.")
    assert result.bad == bad
    assert result.growth > 1.2 and load.Result(10, [], [], flat, 2, "").growth == 1
    assert "| REST | decode | 2 | 100 ms | 100 ms | 100 ms | 100 ms | 1 | 0 |" in result.table()
    assert "| gRPC | decode | 1 | 100 ms | 100 ms | 100 ms | 100 ms | 0 | 1 |" in result.table()
    assert "0.3 requests a second" in result.table()


@pytest.mark.slow
def test_fifty_clients_for_five_minutes() -> None:
    command = [sys.executable, "-m", "tests.serving.load", "--seconds=300", "--clients=50"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
