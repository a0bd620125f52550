"""`--state-machine package.module:Class`: from text to a machine that the node can run.

`server/run.py` calls it before anything starts. Rule: whatever is wrong is a ValueError that says what to do.
"""

import importlib
from typing import Any

from raftwright.machine.adapter import AdaptedMachine


def load_machine(text: str) -> AdaptedMachine:
    """Import the class, make one object of it without arguments, and adapt it."""
    module_name, colon, path = text.partition(":")
    if not colon or not module_name or not path:
        raise ValueError(f"{text!r} does not name a state machine: write package.module:Class")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(f"the module {module_name} cannot be imported: {error}") from error
        raise ValueError(
            f"there is no module {error.name!r}: install it for this Python, or put the folder that holds it into"
            " PYTHONPATH"
        ) from error
    except Exception as error:
        raise ValueError(f"the module {module_name} cannot be imported: {type(error).__name__}: {error}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise ValueError(f"the module {module_name} has no {path!r}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{text} is no class")
    try:
        made = found()
    except Exception as error:
        raise ValueError(f"{text} cannot be made without arguments: {type(error).__name__}: {error}") from error
    return AdaptedMachine(made)
