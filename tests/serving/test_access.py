"""Tokens: files of them, scopes, and what errors and logs must not hold."""

from pathlib import Path

import pytest

from clickscale.errors import ConfigError
from clickscale.serving.access import VARIABLE, Access, Caller, load_access
from clickscale.serving.messages import Refusal

SECRET = "0123456789abcdef"


def written(folder: Path, text: str) -> Path:
    path = folder / "tokens.txt"
    path.write_text(text, "utf-8")
    return path


def test_a_file_names_callers_and_scopes(tmp_path: Path) -> None:
    access = load_access(written(tmp_path, f"# note\n\nweb rank,events {SECRET}  # the shop\n"))
    assert not access.is_open
    assert access.admit(f"Bearer {SECRET}", "rank") == Caller("web", frozenset({"rank", "events"}))
    assert access.admit(f"bearer  {SECRET} ", "events").name == "web"
    assert access.tenants == ("web",)
    for header in (None, "", SECRET, f"Basic {SECRET}", f"Bearer {SECRET}0", "Bearer \udcff"):
        with pytest.raises(Refusal) as refused:
            access.admit(header, "rank")
        assert (refused.value.status, SECRET in str(refused.value)) == (401, False)
    with pytest.raises(Refusal) as refused:
        access.admit(f"Bearer {SECRET}", "admin")
    assert refused.value.status == 403


def test_the_environment_is_read_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"a rank {SECRET}\nb admin {SECRET[::-1]}")
    assert load_access(None).admit(f"Bearer {SECRET[::-1]}", "admin").name == "b"
    monkeypatch.delenv(VARIABLE)
    assert load_access(None).is_open


def test_without_tokens_nobody_administers() -> None:
    assert Access().admit(None, "rank").name == ""
    with pytest.raises(Refusal, match="no tokens"):
        Access().admit(None, "admin")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"web {SECRET}", "2 words"),
        (f"web ranks {SECRET}", "did you mean 'rank'"),
        ("web rank short", "5 characters"),
        ("# nothing", "holds no token"),
    ],
)
def test_a_wrong_line_is_told_without_its_token(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_access(written(tmp_path, text))
    assert reason in str(error.value)
    assert SECRET not in str(error.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot read the tokens"):
        load_access(tmp_path / "no.txt")
