import signal
import threading

import pytest

from clickscale.training.run.interruption import Interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_remembered_and_does_not_end_the_process(number: int) -> None:
    with Interruption() as interruption:
        assert interruption.number == 0
        signal.raise_signal(number)
        assert interruption.number == number


def test_the_handlers_of_before_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interruption():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_ctrl_c_is_not_held_back() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption():  # noqa: PT012 - the first one must pass
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_outside_the_main_thread_handlers_are_left_alone() -> None:
    found = []

    def work() -> None:
        with Interruption() as interruption:
            found.append((interruption.number, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(0, signal.getsignal(signal.SIGTERM))]
