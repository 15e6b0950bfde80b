"""Where a model server is, and which of its models is meant."""

import dataclasses
import ipaddress
import re
import urllib.parse

from dcign_tf.errors import UsageError

# HTTP's own ports; for gRPC there is no custom but TensorFlow Serving's.
_PORTS = {"http": 80, "https": 443, "grpc": 8500, "grpcs": 443}
_RIGHT = "http://host:8501 (REST) or grpc://host:8500, or https:// and grpcs:// for encryption"


@dataclasses.dataclass(frozen=True)
class Address:
    """What `parse_address` gives.

    Attributes:
        scheme: http, https, grpc or grpcs.
        host: a name or an address; of IPv6 without brackets.
        port: 1 to 65535.
        prefix: what stands before /v1 in the paths of a server behind a proxy, such as "/serving"; "" for nothing.
    """

    scheme: str
    host: str
    port: int
    prefix: str = ""

    @property
    def authority(self) -> str:
        """Host and port, as gRPC and URLs have them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.prefix}"


def parse_address(text: str, name: str = "server") -> Address:
    """Reads a server's address.

    Example:
        >>> parse_address("http://localhost:8501")
        Address(scheme='http', host='localhost', port=8501, prefix='')

    Args:
        text: such as http://host:8501, grpc://host:8500 or https://host/serving.
        name: what to call it in errors.

    Raises:
        UsageError: it is something else.
    """

    def wrong(reason: str) -> UsageError:
        return UsageError(f"{name}: got {text!r}, {reason}; must be {_RIGHT}")

    # urlsplit drops some of these silently.
    if not text.isascii() or any(letter <= " " or letter == "\x7f" for letter in text):
        raise wrong("with letters that no address has")
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise wrong(f"which is no address ({error})") from error
    if parts.scheme not in _PORTS:
        raise wrong("without a scheme" if "://" not in text else f"with the scheme {parts.scheme}")
    if not parts.hostname:
        raise wrong("without a host")
    if not _is_host(parts.hostname, "[" in parts.netloc):
        raise wrong(f"with {parts.hostname!r} for a host")
    if "@" in parts.netloc:
        raise wrong("with a user's name in it")
    if "?" in text or "#" in text:
        raise wrong("with more than a path behind the host")
    if port == 0:
        raise wrong("with the port 0")
    prefix = parts.path.rstrip("/")
    if prefix and parts.scheme.startswith("grpc"):
        raise wrong("with a path, which gRPC does not have")
    return Address(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], prefix)


def _is_host(text: str, bracketed: bool) -> bool:
    if bracketed:
        try:
            return isinstance(ipaddress.ip_address(text.partition("%")[0]), ipaddress.IPv6Address)
        except ValueError:
            return False
    return all(re.fullmatch("[a-z0-9_-]{1,63}", label) for label in text.rstrip(".").split("."))


@dataclasses.dataclass(frozen=True)
class Target:
    """A model on a server.

    Attributes:
        name: of the model.
        version: None for the one that the server takes by itself, the latest it serves.
        label: a version label of the server's configuration, such as "stable", instead of a version.

    Raises:
        UsageError: a name that no model can have, no version, or both version and label.
    """

    name: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        # What would end a name in the paths of the REST interface.
        for what, given in (("model", self.name), ("label", self.label or "-")):
            if not given or not given.isprintable() or any(mark in given for mark in "/:"):
                raise UsageError(
                    f"{what}: got {given!r}, must be a name without slashes and colons"
                )
        if self.version is not None and not 0 <= self.version < 1 << 63:
            raise UsageError(f"version: got {self.version}, must be 0 or more")
        if self.version is not None and self.label is not None:
            raise UsageError(f"version: got {self.version} and the label {self.label!r}; give one")

    @property
    def path(self) -> str:
        """As the REST interface has it: "faces", "faces/versions/3" or "faces/labels/stable"."""
        path = urllib.parse.quote(self.name, safe="")
        if self.version is not None:
            return f"{path}/versions/{self.version}"
        if self.label is not None:
            return f"{path}/labels/{urllib.parse.quote(self.label, safe='')}"
        return path

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.name}, version {self.version}"
        return f"{self.name}, label {self.label}" if self.label is not None else self.name
