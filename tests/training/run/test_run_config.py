from pathlib import Path

import pytest

from clickscale.errors import ConfigError
from clickscale.training.distill.distill_config import distill_config
from clickscale.training.run.run_config import train_config

DATA = Path("prepared")


def file_of(folder: Path, text: str) -> Path:
    path = folder / "options.toml"
    path.write_text(text)
    return path


def test_flags_win_over_the_file_and_sets_over_both(tmp_path: Path) -> None:
    file = file_of(tmp_path, "batch_size = 1\nlog_every = 2\nthreads = 3\n[epochs]\ncount = 4\n")
    config = train_config(
        "din", DATA, file=file, flags={"batch_size": 10, "log_every": 20}, sets=["batch_size=100"]
    )
    assert (config.batch_size, config.log_every, config.threads, config.epochs.count) == (100, 20, 3, 4)
    assert config.keep == 2  # the default


def test_a_file_of_a_run_has_options_of_the_model_too(tmp_path: Path) -> None:
    text = '[model]\nd = 4\nbias = "none"\n[model.head]\nhidden = [8, 4]\n[optimizer]\nlearning_rate = 0.5\n'
    config = train_config("suan", DATA, file=file_of(tmp_path, text), sets=["model.d=16", "seed=3"])
    assert config.model_options == ("d=4", "bias=none", "head.hidden=[8, 4]", "d=16")
    assert (config.model, config.optimizer.learning_rate, config.seed) == ("suan", 0.5, 3)


def test_text_that_looks_like_a_number_stays_text(tmp_path: Path) -> None:
    file = file_of(tmp_path, '[model]\nfield = "3"\n')
    assert train_config("est", DATA, file=file).model_options == ('field="3"',)


def test_an_unknown_key_of_a_file_names_the_file_and_the_nearest_key(tmp_path: Path) -> None:
    file = file_of(tmp_path, "[optimizer]\nlearning_rat = 0.1\n")
    with pytest.raises(ConfigError, match=r"options\.toml: .*did you mean 'optimizer\.learning_rate'"):
        train_config("din", DATA, file=file)
    with pytest.raises(ConfigError, match=r"--set: .*did you mean 'batch_size'"):
        train_config("din", DATA, sets=["batch_siz=3"])


@pytest.mark.parametrize(
    ("text", "message"),
    [("batch_size = 'x'", "batch_size"), ("batch_size", "not valid TOML"), ("model = 'suan'", "name one")],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_config("din", DATA, file=file_of(tmp_path, text))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot read"):
        train_config("din", DATA, file=tmp_path / "none.toml")


def test_the_file_of_a_distillation_has_tables_for_both_models(tmp_path: Path) -> None:
    text = (
        "temperature = 3.0\n[student.model]\nd = 4\n[student.optimizer]\nlearning_rate = 0.5\n"
        "[teacher.model]\nd = 8\n"
    )
    config = distill_config(
        "din:size-1:5",
        DATA,
        teacher="suan:size-1:8",
        file=file_of(tmp_path, text),
        flags={"teacher.optimizer.learning_rate": 0.25},
        sets=["student.model.hidden=8"],
    )
    assert config.student.model_options == ("d=4", "hidden=8")
    assert config.teacher is not None
    assert config.teacher.model_options == ("d=8",)
    assert (config.temperature, config.student.optimizer.learning_rate) == (3.0, 0.5)
    assert config.teacher.optimizer.learning_rate == 0.25


def test_options_of_a_distillation_that_reach_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"whose option model\.d of .*options\.toml is"):
        distill_config(
            "din:size-1:5", DATA, teacher="suan:size-1:8", file=file_of(tmp_path, "[model]\nd = 1")
        )
    with pytest.raises(ConfigError, match="is not trained here"):
        distill_config("din:size-1:5", DATA, teacher_run="run", sets=["teacher.optimizer.learning_rate=1"])
