"""Finds a model's folder on this machine: a directory as it is, a hub name through the Hugging Face cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from streamvlm.errors import ModelError

SETTINGS = ("*.json", "*.jinja")
"""Everything but the weights: a few MB."""
WEIGHTS = (*SETTINGS, "*.safetensors")
_EXAMPLE = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"


def find_folder(name: str, wanted: Sequence[str] = SETTINGS) -> Path:
    """Returns the folder of a checkpoint.

    Args:
        name: A directory, or an ``owner/name`` of the Hugging Face hub, which is downloaded unless it is here.
        wanted: Patterns of the files to download.

    Raises:
        ModelError: If there is no such model, or it cannot be downloaded.
    """
    if name and Path(name).is_dir():
        return Path(name)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ModelError(
            f"There is no model {name!r}; give pocket, a directory with a checkpoint, or a hub name such as {_EXAMPLE}."
        )
    try:
        return Path(snapshot_download(name, allow_patterns=list(wanted)))
    except GatedRepoError as error:
        raise ModelError(
            f"The model {name!r} is gated; accept its terms on its hub page, and log in with `hf auth login`."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(
            f"There is no model {name!r}, neither as a directory nor on the hub; check the spelling, and for a private "
            "one log in with `hf auth login`."
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise ModelError(
            f"There is no model {name!r} on this machine, and the hub cannot be reached ({_reason(error)}); connect, "
            "or give a directory with the checkpoint."
        ) from error
    except HfHubHTTPError as error:
        raise ModelError(f"The hub refused {name!r} ({_reason(error)}); try again later.") from error
    except OSError as error:
        raise ModelError(f"{name!r} cannot be downloaded ({_reason(error)}); mend that and try again.") from error


def _reason(error: BaseException) -> str:
    """Returns the first line of an error's innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
