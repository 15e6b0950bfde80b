"""Addresses of servers are read as they are meant, or refused in one line."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dcign_tf.errors import UsageError
from dcign_tf.serving import server_address
from dcign_tf.serving.server_address import Address, Target


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://localhost:8501", Address("http", "localhost", 8501)),
        ("HTTP://Models.Example.org", Address("http", "models.example.org", 80)),
        ("https://example.org", Address("https", "example.org", 443)),
        ("http://example.org:8080/serving/", Address("http", "example.org", 8080, "/serving")),
        ("grpc://10.0.0.1", Address("grpc", "10.0.0.1", 8500)),
        ("grpcs://example.org/", Address("grpcs", "example.org", 443)),
        ("grpc://[::1]:9000", Address("grpc", "::1", 9000)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert server_address.parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "without a scheme"),
        ("localhost:8501", "without a scheme"),
        ("ftp://host", "with the scheme ftp"),
        ("http://", "without a host"),
        ("http://:8501", "without a host"),
        ("http://host:port", "which is no address"),
        ("http://host:0", "with the port 0"),
        ("http://host:65536", "which is no address"),
        ("http://me:secret@host", "with a user's name"),
        ("http://host?x=1", "with more than a path"),
        ("http://host/#a", "with more than a path"),
        ("http://ho st", "with letters that no address has"),
        ("http://höst", "with letters that no address has"),
        ("http://host\n:80", "with letters that no address has"),
        ("http://a..b", "for a host"),
        ("http://" + "a" * 64, "for a host"),
        ("http://a%20b", "for a host"),
        ("http://[1::2::3]", "which is no address"),
        ("grpc://host/path", "with a path"),
    ],
)
def test_what_is_no_address(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as raised:
        server_address.parse_address(text, "--server")
    assert str(raised.value).startswith(f"--server: got {text!r}, ")
    assert reason in str(raised.value)
    assert "must be http://host:8501" in str(raised.value)


_LABELS = st.text("abyz0189-_", min_size=1, max_size=63)
_HOSTS = st.lists(_LABELS, min_size=1, max_size=3).map(".".join) | st.ip_addresses(v=6).map(str)


@given(
    st.sampled_from(["http", "https", "grpc", "grpcs"]),
    _HOSTS,
    st.integers(1, 65535),
    st.lists(st.text("ab0._~-", min_size=1), max_size=2).map(lambda p: "".join(f"/{x}" for x in p)),
)
def test_what_is_written_is_read(scheme: str, host: str, port: int, prefix: str) -> None:
    address = Address(scheme, host, port, prefix if scheme.startswith("http") else "")
    assert server_address.parse_address(str(address)) == address


@example("http://[::1")
@example("http://[x]:1")
@given(
    st.text(max_size=30)
    | st.text(st.sampled_from("htpgrcs:/[]@.?#%0189 a\n"), max_size=24)
    | st.text(st.sampled_from(string.printable), max_size=20).map("http://".__add__)
)
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    try:
        address = server_address.parse_address(text)
    except UsageError:
        return
    assert address.host and 1 <= address.port <= 65535
    assert server_address.parse_address(str(address)) == address


@given(st.text(max_size=12), st.none() | st.integers(), st.none() | st.text(max_size=8))
def test_targets(name: str, version: int | None, label: str | None) -> None:
    try:
        target = Target(name, version, label)
    except UsageError:
        return
    # One segment each, whatever the names hold.
    parts = target.path.split("/")
    assert len(parts) == (1 if version is None and label is None else 3)
    assert target.path.isascii() and ":" not in target.path
    assert name in str(target)


def test_paths() -> None:
    assert Target("faces").path == "faces"
    assert Target("my faces", 3).path == "my%20faces/versions/3"
    assert Target("faces", label="büro").path == "faces/labels/b%C3%BCro"
