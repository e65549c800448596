"""Names of models: which may be put into a path, and which two mean the same model."""

from __future__ import annotations

import re

from resilient_llm.errors import ConfigurationError

_VERSION = r"[-@](?:\d{4}-\d{2}-\d{2}|\d{3,8}|latest|default|(?:preview|exp|beta)(?:-\d{2,4}(?:-\d{2,4})?)?|v\d+)$"
"""A date, a build or a stage at the end of a name: it says which edition of the model, not which model."""
_TAG = r":[\w.-]*$"
_IN_PATH = r"(?:[^/?#%\\]+/){0,6}[^/?#%\\]+"


def checked(model: object, kind: str, *, in_path: bool, slashes: bool) -> str:
    """A model's name.  Raises ``ConfigurationError`` for none, for control characters, and, where it becomes part of
    the path, for what would lead elsewhere.

    ``slashes``: whether the vendor has names with a slash in them.
    """
    if not isinstance(model, str) or not model.strip():
        raise ConfigurationError(f"{kind} needs the name of a model, not {model!r:.80}")
    if not model.isprintable():
        raise ConfigurationError(f"the name of a model has no control characters; {kind} was given {model!r:.80}")
    if in_path:
        strange = re.fullmatch(_IN_PATH, model) is None or any(part.strip(".") == "" for part in model.split("/"))
        if strange or ("/" in model and not slashes):
            raise ConfigurationError(f"{model!r:.80} is no name of a model at {kind}: it would lead to another path")
    return model


def same_model(asked: str, answered: str) -> bool:
    """Whether an answer's model is the one asked for, under any name known for it: with or without the vendor, the
    region, the date or the edition.  A missing name proves nothing."""
    return not answered or asked == answered or _core(asked) == _core(answered)


def _core(name: str) -> str:
    name = re.sub(_TAG, "", name.lower().rstrip("/").rpartition("/")[2])
    for _ in range(4):
        name, changed = re.subn(_VERSION, "", name)
        if not changed:
            break
    return name.rpartition("anthropic.")[2]
