"""No secret is written down, wherever in a configuration it stands."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_project.record.run_record import RunRecord
from grpo_project.record.secrets import REDACTED, is_secret_name, redact, redact_text

SECRET = "q7RtzL0pWx"


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "hub_token",
        "HF_TOKEN",
        "use_auth_token",
        "accessToken",
        "WANDB_API_KEY",
        "apiKey",
        "api-key",
        "AWS_SECRET_ACCESS_KEY",
        "PGPASSWORD",
        "MYSQL_PWD",
        "client_secret",
        "private_key",
        "Authorization",
        "--hub_token",
    ],
)
def test_names_of_secrets(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "pad_token",
        "eos_token_id",
        "max_new_tokens",
        "tokenizer",
        "TOKENIZERS_PARALLELISM",
        "num_key_value_heads",
        "image_token_index",
        "PWD",
        "keys",
        "monkey",
        "special_tokens_map",
        "top_entropy_quantile",
        "loss_type",
    ],
)
def test_names_of_other_things(name):
    assert not is_secret_name(name)


def test_no_flag_of_a_run_is_taken_for_a_secret_but_the_hubs():
    import dataclasses

    from trl import GRPOConfig, ModelConfig

    from grpo_project.config import RunArguments

    flags = [field.name for kind in (GRPOConfig, ModelConfig, RunArguments) for field in dataclasses.fields(kind)]
    assert [name for name in flags if is_secret_name(name)] == ["hub_token"]


def nested(value):
    """``value`` under a secret's name somewhere within dictionaries, lists and texts."""
    names = st.sampled_from(["grpo", "model_init_kwargs", "a", "argv"])
    inner = st.sampled_from(
        [
            {"token": value},
            {"headers": {"Authorization": value}},
            ["--hub_token", value],
            [f"--hub_token={value}"],
            json.dumps({"token": value, "dtype": "auto"}),
            f"password={value};host=db",
            {"secrets": [value, {"x": value}]},
        ]
    )
    return st.recursive(
        inner,
        lambda children: (
            st.lists(children, min_size=1, max_size=3) | st.dictionaries(names, children, min_size=1, max_size=3)
        ),
        max_leaves=5,
    )


@given(nested(SECRET), st.sampled_from(["see {}", "https://host/{}/x", "{}"]))
def test_a_named_secret_is_nowhere_in_what_is_kept(content, text):
    kept = redact({"content": content, "elsewhere": text.format(SECRET), "lr": 1e-6}, {})
    assert SECRET not in json.dumps(kept)
    assert kept["lr"] == 1e-6


@given(nested(SECRET))
def test_nothing_else_changes(content):
    harmless = {
        "a": [1, None, {"eos_token": "</s>", "token": None, "use_auth_token": True}],
        "path": "runs/q7",
        "b": "",
    }
    assert redact({"content": content, **harmless}, {}) == {**redact({"content": content}, {}), **harmless}


@pytest.mark.parametrize(
    "text",
    [
        "hf_abcdefghijklmnopqrst",
        "sk-proj-abcdefghijklmnop",
        "ghp_abcdefghijklmnopqrstuvwx",
        "AKIAABCDEFGHIJKLMNOP",
        "https://me:hunter2@host/path",
        "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
    ],
)
def test_forms_that_say_what_they_are(text):
    assert REDACTED in redact({"notes": f"use {text}"}, {})["notes"]


def test_the_environments_secrets_and_netrc_by_value(tmp_path):
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine api.wandb.ai\n  login user\n  password netrcsecretvalue\n")
    netrc.chmod(0o600)
    environment = {"HOME": str(tmp_path), "MY_TOKEN": SECRET, "PATH": "/usr/bin", "OTHER": "value of another"}
    told = redact(
        {"a": f"x{SECRET}y", "b": ["netrcsecretvalue"], "c": "/usr/bin", "d": "value of another"}, environment
    )
    assert told == {"a": f"x{REDACTED}y", "b": [REDACTED], "c": "/usr/bin", "d": "value of another"}
    assert redact_text(f"bad key {SECRET}!", environment) == f"bad key {REDACTED}!"


def test_run_json_holds_no_secret_and_the_run_itself_still_has_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "k" * 20)
    config = {"grpo": {"model_init_kwargs": {"token": SECRET}}, "command": ["--hub_token", SECRET, "k" * 20, tmp_path]}
    record = RunRecord.create(tmp_path, config, {})
    record.begin_attempt(0, None, 0, argv=f"--hub_token {SECRET}")
    text = (tmp_path / "run.json").read_text()
    assert SECRET not in text
    assert "k" * 20 not in text
    assert record.content["config"]["grpo"]["model_init_kwargs"]["token"] == SECRET
    assert RunRecord.read(tmp_path).content["config"]["command"] == ["--hub_token", REDACTED, REDACTED, str(tmp_path)]
