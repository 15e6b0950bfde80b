"""What can go wrong between a client and a model server, in words for people."""

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
