"""Whether an object store can keep the runs: tried with a small object, which is removed again."""

from __future__ import annotations

from collections.abc import Iterator

from upath import UPath

from experiments.doctor.probes import line
from experiments.doctor.report import Finding
from experiments.errors import StorageError
from experiments.store.files import check_exclusive
from results.reading.location import reached

_GIVE = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, on every node"
_START = "see whether the store is up, and correct AWS_ENDPOINT_URL"
_ALLOW = "give these credentials the right to list, read, write and delete objects of {bucket}"
_CORRECT = "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, on every node"
#: What to do for the errors of a store's client, by class: it is only there with its package.
_REMEDIES = {
    "NoCredentialsError": _GIVE,
    "PartialCredentialsError": _GIVE,
    "EndpointConnectionError": _START,
    "ConnectTimeoutError": _START,
    "PermissionError": _ALLOW,
}
#: What a store answers to a key that is not known, wrong or too old.
_WRONG_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")


def stored(name: str, place: UPath) -> Finding:
    """Whether `place` can be listed, and an object created there only once, and removed."""
    try:
        reached(place)
        check_exclusive(place)
    except StorageError as error:
        what, _, general = str(error).rpartition("; ")
        return Finding(name, False, line(what), _remedy(place, error) or general)
    return Finding(name, True, f"{place}: a small object was created there and removed")


def _remedy(place: UPath, error: BaseException) -> str | None:
    """What to do about the first known cause; None if the message of `error` has to say it."""
    for one in _causes(error):
        answer = getattr(one, "response", {})
        if answer.get("Error", {}).get("Code") in _WRONG_KEYS:
            return _CORRECT
    for one in _causes(error):
        if type(one).__name__ in _REMEDIES:
            return _REMEDIES[type(one).__name__].format(bucket=place.drive or place)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
