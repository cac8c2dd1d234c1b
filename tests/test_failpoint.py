import errno

import pytest

from clickscale.failpoint import VARIABLE, failpoint


def test_nothing_happens_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    failpoint("here")
    monkeypatch.setenv(VARIABLE, "there:enospc")
    failpoint("here")


def test_a_full_disk_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "here:enospc")
    with pytest.raises(OSError, match="No space left") as caught:
        failpoint("here")
    assert caught.value.errno == errno.ENOSPC
