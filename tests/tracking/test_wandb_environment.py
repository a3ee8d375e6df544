"""What decides whether W&B is on: the environment, netrc and the client's settings file."""

import pytest

from grpo_project.errors import TrackingError
from grpo_project.tracking.settings import find_mode, has_key

KEY = "k" * 40


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_key_it_is_offline(home):
    mode = find_mode(None, {"HOME": str(home)})
    assert (mode.name, mode.reason) == ("offline", "no API key was found")


@pytest.mark.parametrize(
    "variables", [{"WANDB_API_KEY": KEY}, {"WANDB_IDENTITY_TOKEN_FILE": "token"}], ids=["key", "token"]
)
def test_a_key_in_the_environment_means_online(home, variables):
    assert find_mode(None, {"HOME": str(home), **variables}).name == "online"


@pytest.mark.parametrize(
    ("netrc", "url", "found"),
    [
        ("machine api.wandb.ai\n  login user\n  password PASSWORD\n", None, True),
        ("machine wandb.example.org\n  login user\n  password PASSWORD\n", "https://wandb.example.org", True),
        ("machine wandb.example.org\n  login user\n  password PASSWORD\n", None, False),
        ("machine api.wandb.ai\n  login\n", None, False),
    ],
    ids=["public", "own-server", "other-server", "broken"],
)
def test_a_key_in_netrc_counts_for_its_server(home, netrc, url, found):
    (home / ".netrc").write_text(netrc)
    (home / ".netrc").chmod(0o600)
    assert has_key({"HOME": str(home), **({"WANDB_BASE_URL": url} if url else {})}) is found


def test_the_mode_of_the_call_beats_the_environment_and_that_the_settings_file(home):
    (home / "wandb").mkdir()
    (home / "wandb" / "settings").write_text("[default]\nmode = offline\n")
    environment = {"HOME": str(home), "WANDB_API_KEY": KEY}
    assert find_mode(None, environment).name == "offline"
    assert find_mode(None, {**environment, "WANDB_MODE": "online"}).name == "online"
    assert find_mode("disabled", {**environment, "WANDB_MODE": "online"}).name == "disabled"


def test_dryrun_is_the_old_name_of_offline(home):
    assert find_mode(None, {"HOME": str(home), "WANDB_MODE": "dryrun"}).name == "offline"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WANDB_MODE": "sometimes"}, "WANDB_MODE is 'sometimes'; it can be online, offline"),
        ({"WANDB_MODE": "online"}, "no API key for https://api.wandb.ai: run `wandb login`"),
    ],
)
def test_what_cannot_be_meant_is_an_error_with_a_way_out(home, variables, message):
    with pytest.raises(TrackingError, match=message):
        find_mode(None, {"HOME": str(home), **variables})
