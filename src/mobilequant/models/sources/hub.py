"""A model of the Hugging Face hub: only data files are fetched, then it is a folder like any other."""

from __future__ import annotations

import re
from pathlib import Path

from mobilequant.errors import CheckpointError

REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
DATA_FILES = ["*.safetensors", "*.json", "tokenizer.model", "*.jinja"]


def is_hub_id(name: str) -> bool:
    """Whether a name has the form ``organisation/model``."""
    return REPO_ID.fullmatch(name) is not None


def fetch_hub(repo: str) -> Path:
    """The folder of a hub model in the hub client's cache, downloaded on first use.

    Raises CheckpointError when there is no such model or no connection.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, allow_patterns=DATA_FILES))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"There is no folder {repo}, and the hub did not give a model of that name: {reason}",
            "Check the name and the connection, or download the model elsewhere and give its folder.",
        ) from error
