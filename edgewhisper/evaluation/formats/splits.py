"""The names that splits of data usually have."""

from __future__ import annotations

import re

_DEVELOPMENT = re.compile(
    r"(dev|devel|development|val|valid|validation)(set)?(?![a-z])", re.IGNORECASE
)


def is_test(name: str) -> bool:
    """Return whether a split is to be evaluated on, by its name: "test-clean", "Test"."""
    return name.lower().startswith("test")


def is_development(name: str) -> bool:
    """Return whether a split is there to choose settings on: "dev-clean", "validation".

    "validated" is none: Common Voice calls so all that was listened to, its test split too.
    """
    return bool(_DEVELOPMENT.match(name))


def is_usual(name: str) -> bool:
    """Return whether a name says that something is a split."""
    return is_test(name) or is_development(name) or name.lower().startswith("train")
