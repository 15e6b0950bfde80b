"""The trained models that ship with this package, for those who have not trained one of their own."""

import pathlib

import dcign_tf
from dcign_tf.errors import UsageError

# Where setup.py puts the repository's folder saved_models.
_INSTALLED = "shipped_models"


def find(name: str = "faces") -> pathlib.Path:
    """The folder of a shipped model, with a SavedModel for each of its versions.

    Args:
        name: of a folder of saved_models.

    Returns:
        Where it is: in the installed package, or in the checkout this package is used from.

    Raises:
        UsageError: there is none.
    """
    package = pathlib.Path(dcign_tf.__file__).parent
    homes = (package / _INSTALLED / name, package.parent / "saved_models" / name)
    for home in homes:
        if any(home.glob("*/saved_model.pb")):
            return home
    raise UsageError(
        f"--model: none is given, and this copy of dcign_tf comes without its model of {name} "
        f"(neither {homes[0]} nor {homes[1]} holds one); give one of yours, such as --model=runs/quickstart "
        "after `python3 run.py quickstart`"
    )
