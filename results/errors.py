"""Errors of reading that all rooms share."""

from __future__ import annotations


class UserError(ValueError):
    """What was asked for cannot be done; the message says what was given and what to do."""


class StorageError(UserError):
    """A file or an object store cannot be read or written; the message names it and the cause."""
