import subprocess
import sys

import pytest

import clickscale


def test_every_public_name_is_there() -> None:
    assert dir(clickscale) == clickscale.__all__
    for name in clickscale.__all__:
        assert getattr(clickscale, name) is not None
    assert clickscale.open_dataset.__module__ == "clickscale.data.dataset"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'clickscale' has no attribute 'Scroer'"):
        _ = clickscale.Scroer


def python(program: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout.strip()


def test_importing_the_package_does_not_import_torch() -> None:
    assert python("import clickscale, sys; print('torch' in sys.modules)") == "False"


def test_waiting_threads_sleep_unless_the_user_says_otherwise() -> None:
    program = "import clickscale, os; print(os.environ['OMP_WAIT_POLICY'])"
    assert python(program) == "PASSIVE"
    assert python(program, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"
