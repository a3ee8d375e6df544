"""Settings: what the environment says about W&B (mode, server, whether a key exists), and how patiently to deliver.

Found without importing wandb. The key itself is never read into anything that is written: only whether there is one.
"""

from __future__ import annotations

import configparser
import netrc
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from grpo_project.errors import TrackingError

DEFAULT_PROJECT = "grpo-project"
MODES = {"online": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
# The public service has had two addresses; a key stored for one is used by the client for the other.
PUBLIC_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
RESUME_ENVIRONMENT = {"allow": "same", "must": "same", "auto": "same", "never": "new"}


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds, and the number of rows that may be unconfirmed (``window``).

    stall_s: no confirmation for so long while the server answers means that the client stopped uploading for good (it
    does after one 401, 403, 404, 409 or 413). silence_s: a delivery that says nothing for so long is frozen.
    """

    confirm_s: float = 5.0
    stall_s: float = 60.0
    silence_s: float = 90.0
    backoff_s: float = 2.0
    backoff_max_s: float = 60.0
    backup_s: float = 30.0
    init_s: float = 30.0
    finish_s: float = 20.0
    drain_s: float = 60.0
    window: int = 2000


@dataclass(frozen=True, slots=True)
class Mode:
    """``name``: online, offline or disabled. ``reason``: why, for people."""

    name: str
    reason: str


def find_mode(asked: str | None = None, environment: Mapping[str, str] = os.environ) -> Mode:
    """Decide: an explicit ``asked``, then WANDB_MODE, then what ``wandb offline`` wrote, then whether there is a key.

    Raises:
        TrackingError: a mode that does not exist, or "online" asked for without a key.
    """
    settings = _settings_files(environment)
    for value, source in (
        (asked, "mode"),
        (environment.get("WANDB_MODE"), "WANDB_MODE"),
        (settings.get("mode"), "the wandb settings file"),
    ):
        if not value:
            continue
        if value not in MODES:
            raise TrackingError(f"{source} is {value!r}; it can be {', '.join(MODES)}")
        if MODES[value] == "online" and not has_key(environment):
            raise TrackingError(
                f"{source} asks for W&B online, but there is no API key for {base_url(environment)}: "
                "run `wandb login`, set WANDB_API_KEY, or use WANDB_MODE=offline"
            )
        return Mode(MODES[value], f"{source} is {value}")
    if has_key(environment):
        return Mode("online", "an API key was found")
    return Mode("offline", "no API key was found")


def base_url(environment: Mapping[str, str] = os.environ) -> str:
    url = environment.get("WANDB_BASE_URL") or _settings_files(environment).get("base_url")
    return (url or f"https://{PUBLIC_HOSTS[0]}").rstrip("/")


def has_key(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the client would find credentials: the environment, an identity token, or netrc."""
    if environment.get("WANDB_API_KEY") or environment.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(base_url(environment)).netloc
    hosts = PUBLIC_HOSTS if host in PUBLIC_HOSTS else (host,)
    for path in _netrc_files(environment):
        try:
            entries = netrc.netrc(path)
        except (OSError, netrc.NetrcParseError):
            continue  # as the client does: an unreadable file holds no key
        if any(entries.hosts[name][2] for name in hosts if name in entries.hosts):  # the password is the key
            return True
    return False


def _netrc_files(environment: Mapping[str, str]) -> list[Path]:
    if environment.get("NETRC"):
        return [Path(environment["NETRC"]).expanduser()]
    home = Path(environment.get("HOME") or Path.home())
    return [home / ".netrc", home / "_netrc"]


def _settings_files(environment: Mapping[str, str]) -> dict[str, str]:
    """The client's own settings files, the folder's over the user's (``wandb offline`` writes ``mode`` there)."""
    home = Path(environment.get("HOME") or Path.home())
    user = Path(environment.get("WANDB_CONFIG_DIR") or home / ".config" / "wandb")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read([user / "settings", Path("wandb/settings")], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise TrackingError(f"the wandb settings file can't be read: {error}") from error
    return dict(parser["default"]) if parser.has_section("default") else {}
