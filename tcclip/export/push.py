"""An exported folder to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def check_push(name: str) -> None:
    """ValueError unless `name` can be a repository's and a token is there."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"{name!r} cannot be a repository's name: {error}") from error
    if get_token() is None:
        raise ValueError(
            "there is no token of the Hugging Face Hub: run `hf auth login`, or set HF_TOKEN"
        )


def push(folder: Path, name: str, *, private: bool = False) -> str:
    """Upload a folder as repository `name`, made if it is not there, in one commit; its address.

    OSError, with what the server said, if that fails.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    # What the client's HTTP library, which it has changed before, raises for a lost connection.
    no_answer: Any = HfHubHTTPError.__mro__[1]
    api = HfApi()
    try:
        made = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=made.repo_id, folder_path=folder, commit_message="Upload by tcclip export"
        )
    except (OSError, RuntimeError, no_answer) as error:
        raise OSError(f"{name} could not be uploaded: {error}") from error
    return str(made)
