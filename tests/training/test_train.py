import subprocess
import sys

LOADED = """
import sys
import clickscale.training.train
print(*(name for name in sys.modules if name.startswith("clickscale.models.")))
"""


def test_training_loads_no_model_before_one_is_asked_for() -> None:
    loaded = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True).stdout
    assert loaded.split() == [
        "clickscale.models._base",
        "clickscale.models._chunks",
        "clickscale.models._losses",
    ]
