"""What can go wrong between a client and a model server, in words for people."""

import re

from dcign_tf.errors import DcignError


class ServerError(DcignError):
    """The server failed; also the parent of all that can be told more precisely.

    Attributes:
        retriable: whether the same request may well succeed in a moment.
    """

    retriable = False


class ServerUnavailable(ServerError):
    """Nobody answers there, or the server says that it cannot just now."""

    retriable = True


class ServerTimeout(ServerUnavailable):
    """No answer came in time."""


class RequestRefused(ServerError):
    """The server looked at the request and will not have it: asking again changes nothing."""


class ModelNotFound(ServerError):
    """The server has no such model, version or version label."""


class BadResponse(ServerError):
    """What answered does not speak as TensorFlow Serving does, or not of one of our models."""


def for_people(message: str) -> str:
    """A server's message in one line, without the graph's nodes that it passed through."""
    message = re.sub(r"\[\[\{\{.*?\}\}\]\]", "", message)
    # What our signatures refuse, TensorFlow words so.
    if found := re.search(r"assertion failed: \[(.*)\]", message, re.DOTALL):
        message = found[1]
    message = " ".join(message.split())
    return message if len(message) <= 500 else f"{message[:500]}..."
