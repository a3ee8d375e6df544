"""The Hugging Face hub, asked once before anything waits for it: is there such a model, can it be reached, pushed to.

transformers asks for each file of a model in turn, with retries: a typo costs minutes where there is no network.
"""

from __future__ import annotations

from grpo_project.config import one_line
from grpo_project.errors import ConfigError
from grpo_project.problems.tables import offline_because

TIMEOUT_S = 10.0


def require_on_hub(name: str, flag: str, revision: str | None = None) -> None:
    """Return if the model ``name`` is in the local cache or on the hub.

    Raises:
        ConfigError: it is neither, or the hub can't be asked; the message names ``flag`` and says which.
    """
    from huggingface_hub import constants, model_info, try_to_load_from_cache
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import httpx  # whichever generation of it the hub's client uses

    missing = f"{flag} {name}: there is no such folder here"
    try:
        if isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
            return
        if constants.is_offline_mode():
            raise ConfigError(
                f"{missing}, the local cache has no such model, and HF_HUB_OFFLINE is set; give the folder that "
                "holds the model"
            )
        model_info(name, revision=revision, timeout=TIMEOUT_S)
    except HFValidationError as error:
        raise ConfigError(f"{missing}, and it can't be a hub id: {one_line(error)}") from error
    except GatedRepoError as error:
        raise ConfigError(
            f"{flag} {name} is gated on the hub: accept its terms there and log in with `hf auth login` (or HF_TOKEN)"
        ) from error
    except RepositoryNotFoundError as error:
        raise ConfigError(
            f"{missing}, and the hub has no model of that name (a private one needs `hf auth login` or HF_TOKEN)"
        ) from error
    except RevisionNotFoundError as error:
        raise ConfigError(f"{flag} {name}: the hub has no revision {revision} of it (--model_revision)") from error
    except (OSError, httpx.HTTPError, HfHubHTTPError) as error:
        raise ConfigError(
            f"{missing}, the local cache has no such model, and the hub can't be reached ({one_line(error)}); offline, "
            "give the folder that holds the model"
        ) from error


def require_push(token: object) -> None:
    """Raise ``ConfigError`` unless ``--push_to_hub`` has a hub to push to and a token to do it with."""
    if reason := offline_because():
        raise ConfigError(f"--push_to_hub: {reason}; leave it out, and upload the folder later (`hf upload`)")
    from huggingface_hub import get_token

    if not token and not get_token():
        raise ConfigError("--push_to_hub needs a token: `hf auth login`, HF_TOKEN or --hub_token")
