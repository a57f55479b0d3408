"""Errors survive the trip between processes."""

from __future__ import annotations

import pickle

import pytest

from tasks import errors

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_survives_pickling(kind: type[errors.KlinehouseError]) -> None:
    """An error raised in a worker process arrives as itself, message and attributes whole."""
    first = kind("expected this, found that")
    again = pickle.loads(pickle.dumps(first))  # noqa: S301
    assert type(again) is kind
    assert str(again) == str(first) == "expected this, found that"
    assert vars(again) == vars(first)


def test_rate_limited_keeps_the_wait() -> None:
    """The vendor's wait is not lost between processes."""
    again = pickle.loads(pickle.dumps(errors.RateLimitedError("slow down", 7.5)))  # noqa: S301
    assert again.retry_after_s == 7.5


def test_the_drawing_names_every_class() -> None:
    """The tree at the top of the module is complete."""
    assert errors.__doc__ is not None
    for kind in CLASSES:
        assert kind.__name__ in errors.__doc__
