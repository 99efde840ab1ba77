"""A tracker that does not answer: found out soon, waited for briefly, told without its password."""

from __future__ import annotations

import re
import shlex
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TypeVar

from results.reading.location import Location, location

T = TypeVar("T")

#: How long a server may take to say that it is there.
ANSWER_SECONDS = 5.0


def check_answers(uri: str) -> None:
    """ConnectionError if there is a server at `uri` to be asked and it does not answer soon.

    Any answer will do, an error or a refused certificate included; databases are not asked.
    """
    if not uri.startswith(("http://", "https://")):
        return
    address = redact_url(uri).rstrip("/") + "/health"
    try:
        with urllib.request.urlopen(address, timeout=ANSWER_SECONDS):
            return
    except urllib.error.HTTPError:
        return
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLError):
            return
        raise ConnectionError(f"no answer: {error.reason}") from error
    except OSError as error:
        raise ConnectionError(f"no answer within {ANSWER_SECONDS:g} s: {error}") from error


#: What a query may call a secret.
_SECRET = r"(?i:password|passwd|pwd|token|secret|api_?key|access_?key|key)"
#: Where an address ends in a text, in a set of a regular expression.
_END = r"\s\"'<>"


def redact_url(text: str) -> str:
    """`text` without the names and passwords of the addresses in it.

    A password may hold an @ or a slash that should have been quoted: up to the last @ it goes.
    """
    text = re.sub(rf"(?<=://)(?:[^/?{_END}]*@|[^/?:{_END}]*:(?!\d+[/?])[^{_END}]*@)", "", text)
    return re.sub(rf"(?<=[?&])({_SECRET}=)[^&{_END}]*", r"\1...", text)


def within(seconds: float, action: Callable[[], T]) -> T:
    """What `action` returns or raises; TimeoutError if it takes longer, and is left to itself."""
    results: list[T] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            results.append(action())
        except Exception as error:  # noqa: BLE001
            errors.append(error)  # raised by who waits

    thread = threading.Thread(target=work, daemon=True, name="mlflow")
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return results[0]


def ui_command(out: Location | str) -> str:
    """What serves MLflow's UI on the runs in `out`, for a shell."""
    return shlex.join(["tcclip", "ui", "--out", str(location(out))])


def sync_command(out: Location | str) -> str:
    """What brings MLflow's copy of the runs in `out` up to date, for a shell."""
    return shlex.join(["tcclip", "ui", "--sync", "--out", str(location(out))])
