"""Admission, order, batches, deadlines, cancellation of the engine, with work that only sleeps."""

import asyncio
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from clickscale.serving.engine import Engine, EngineConfig
from clickscale.serving.messages import Refusal
from clickscale.serving.request_cost import CostModel, Shape


class Sleeper:
    """Work takes as many seconds as it says; a batch takes those of its longest."""

    def __init__(self, costs: CostModel | None = None) -> None:
        self.costs = costs or CostModel(0.0, 1e-3, 0.0)  # a millisecond per candidate
        self.batches: list[list[Any]] = []
        self.gate = threading.Event()
        self.gate.set()

    def score(self, works: Sequence[Any]) -> Sequence[Any]:
        self.gate.wait(10)
        self.batches.append(list(works))
        time.sleep(max((one for one in works if isinstance(one, float)), default=0.0))
        return [ValueError("bad") if one == "bad" else one for one in works]


def in_loop(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


async def settle(engine: Engine, waiting: int) -> None:
    while engine.waiting != waiting:
        await asyncio.sleep(0.001)


def test_answers_and_exceptions_reach_their_own_client() -> None:
    async def test() -> None:
        engine, group = Engine(EngineConfig()), Sleeper()
        group.gate.clear()
        jobs = [
            asyncio.create_task(engine.run(group, work, Shape(1, 0), soon())) for work in ("a", "bad", "b")
        ]
        await asyncio.sleep(0.01)
        group.gate.set()
        found = await asyncio.gather(*jobs, return_exceptions=True)
        assert found[0][0] == "a"  # type: ignore[index]
        assert isinstance(found[1], ValueError)
        assert found[2][0] == "b"  # type: ignore[index]
        engine.close()
        assert engine.join(5)

    in_loop(test)


class Large:
    """Work that takes long to free."""


def test_work_is_freed_after_its_answer_was_written_and_before_the_next_one_comes() -> None:
    async def test() -> None:
        engine, group = Engine(EngineConfig()), Sleeper()
        group.score = lambda works: [None]  # type: ignore[method-assign]
        held: list[weakref.ref[Large]] = []
        was_there: list[bool] = []

        async def client() -> None:
            work = Large()
            held.append(weakref.ref(work))
            asked = engine.run(group, work, Shape(1, 0), soon())
            del work
            await asked
            del asked
            was_there.append(held[0]() is not None)  # where the answer is written

        await client()
        end = soon()
        while held[0]() is not None and time.monotonic() < end:
            await asyncio.sleep(0.001)
        assert was_there == [True]
        assert held[0]() is None
        engine.close()

    in_loop(test)


def order_of(by_cost: bool, works: Sequence[tuple[str, int]]) -> list[str]:
    """Order in which waiting jobs, named and with so many candidates, are taken."""
    taken: list[str] = []

    async def test() -> None:
        engine, group = Engine(EngineConfig(batch=1, queue_ms=1e6), by_cost=by_cost), Sleeper()
        group.gate.clear()
        blocker = asyncio.create_task(engine.run(group, "first", Shape(1, 0), soon()))
        while engine.waiting or not engine.expected_wait():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        jobs = []
        for name, candidates in works:
            jobs.append(asyncio.create_task(engine.run(group, name, Shape(candidates, 0), soon())))
            await asyncio.sleep(0)
        await settle(engine, len(works))
        group.gate.set()
        await asyncio.gather(blocker, *jobs)
        taken.extend(batch[0] for batch in group.batches[1:])
        engine.close()

    in_loop(test)
    return taken


def test_cheap_requests_pass_expensive_ones() -> None:
    works = [("expensive", 500), ("cheap", 1), ("cheaper", 0)]
    assert order_of(True, works) == ["cheaper", "cheap", "expensive"]
    assert order_of(False, works) == ["expensive", "cheap", "cheaper"]


def test_an_expensive_request_is_not_passed_for_ever() -> None:
    async def test() -> None:
        engine, group = Engine(EngineConfig(batch=1, queue_ms=1e6)), Sleeper()
        group.gate.clear()
        first = asyncio.create_task(engine.run(group, "first", Shape(1, 0), soon()))
        await asyncio.sleep(0.01)
        expensive = asyncio.create_task(engine.run(group, "expensive", Shape(20, 0), soon()))
        await asyncio.sleep(0.15)  # longer than 4 times its 20 ms
        cheap = asyncio.create_task(engine.run(group, "cheap", Shape(1, 0), soon()))
        await settle(engine, 2)
        group.gate.set()
        await asyncio.gather(first, expensive, cheap)
        assert group.batches == [["first"], ["expensive"], ["cheap"]]
        engine.close()

    in_loop(test)


@pytest.mark.parametrize(
    ("counts", "config", "expected"),
    [
        ([5, 5, 5], EngineConfig(), [3]),
        ([5, 5, 5], EngineConfig(batch=1), [1, 1, 1]),
        ([5, 5, 5], EngineConfig(batch_ms=11), [2, 1]),
        ([1, 19, 1], EngineConfig(), [2, 1]),  # padding one candidate to 19 would be mostly waste
    ],
)
def test_batches_hold_what_fits_together(
    counts: list[int], config: EngineConfig, expected: list[int]
) -> None:
    async def test() -> None:
        engine, group = Engine(config), Sleeper()
        group.gate.clear()
        first = asyncio.create_task(engine.run(group, "first", Shape(1, 0), soon()))
        while engine.waiting or not engine.expected_wait():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        jobs = [asyncio.create_task(engine.run(group, n, Shape(n, 0), soon())) for n in counts]
        await settle(engine, len(counts))
        group.gate.set()
        await asyncio.gather(first, *jobs)
        assert [len(batch) for batch in group.batches[1:]] == expected
        engine.close()

    in_loop(test)


def test_jobs_of_two_versions_are_never_scored_together() -> None:
    async def test() -> None:
        engine, groups = Engine(EngineConfig()), [Sleeper(), Sleeper()]
        groups[0].gate.clear()
        first = asyncio.create_task(engine.run(groups[0], "first", Shape(1, 0), soon()))
        await asyncio.sleep(0.02)
        jobs = [asyncio.create_task(engine.run(groups[n % 2], n, Shape(1, 0), soon())) for n in range(4)]
        await settle(engine, 4)
        groups[0].gate.set()
        await asyncio.gather(first, *jobs)
        assert sorted(map(sorted, groups[0].batches[1:] + groups[1].batches)) == [[0, 2], [1, 3]]
        engine.close()

    in_loop(test)


def test_a_job_that_could_not_be_answered_in_time_is_refused_at_once() -> None:
    async def test() -> None:
        engine, group = Engine(EngineConfig(queue_ms=200)), Sleeper()
        group.gate.clear()
        tasks = [asyncio.create_task(engine.run(group, "x", Shape(100, 0), soon()))]
        await asyncio.sleep(0.01)
        with pytest.raises(Refusal) as refused:
            await engine.run(group, "x", Shape(1, 0), soon(0.05))
        assert (refused.value.status, refused.value.retry_after > 0) == (429, True)
        tasks += [asyncio.create_task(engine.run(group, "x", Shape(150, 0), soon())) for _ in range(2)]
        await settle(engine, 2)
        with pytest.raises(Refusal, match="More requests wait"):
            engine.check_room()
        group.gate.set()
        await asyncio.gather(*tasks)
        engine.check_room()
        engine.close()

    in_loop(test)


def test_no_more_wait_than_may_wait() -> None:
    async def test() -> None:
        engine, group = Engine(EngineConfig(queue=2, queue_ms=1e6)), Sleeper()
        group.gate.clear()
        tasks = [asyncio.create_task(engine.run(group, "x", Shape(1, 0), soon()))]
        await asyncio.sleep(0.01)
        engine.check_room()
        tasks += [asyncio.create_task(engine.run(group, "x", Shape(1, 0), soon())) for _ in range(2)]
        await settle(engine, 2)
        with pytest.raises(Refusal, match="as may wait"):
            await engine.run(group, "x", Shape(1, 0), soon())
        group.gate.set()
        await asyncio.gather(*tasks)
        engine.close()

    in_loop(test)


def test_expired_and_abandoned_jobs_are_never_scored() -> None:
    async def test() -> None:
        engine, group = Engine(EngineConfig(batch=1, queue_ms=1e6)), Sleeper(CostModel(1e-4, 0, 0))
        group.gate.clear()
        first = asyncio.create_task(engine.run(group, "first", Shape(1, 0), soon()))
        await asyncio.sleep(0.01)
        late = asyncio.create_task(engine.run(group, "late", Shape(1, 0), soon(0.05)))
        gone = asyncio.create_task(engine.run(group, "gone", Shape(1, 0), soon()))
        await settle(engine, 2)
        gone.cancel()
        with pytest.raises(Refusal) as refused:
            await late
        assert refused.value.status == 504
        group.gate.set()
        await first
        last, _ = await engine.run(group, "last", Shape(1, 0), soon())
        assert (last, group.batches) == ("last", [["first"], ["last"]])
        assert engine.expected_wait() == pytest.approx(0, abs=1e-9)
        assert engine.stats.abandoned == 2
        engine.close()

    in_loop(test)


def test_an_idle_engine_takes_a_job_whose_deadline_is_short() -> None:
    async def test() -> None:
        engine, group = Engine(EngineConfig(batch=1, queue_ms=1e6)), Sleeper(CostModel(0.0, 0.1, 0.0))
        group.gate.clear()
        jobs = [asyncio.create_task(engine.run(group, "x", Shape(n, 0), soon(60))) for n in (1, 2, 3)]
        await asyncio.sleep(0.01)
        group.gate.set()
        await asyncio.gather(*jobs)
        # 0.1 + 0.2 + 0.3 - 0.1 - 0.2 - 0.3 is not 0 in floating point.
        assert engine.expected_wait() == 0
        slow = CostModel(10.0, 0.0, 0.0)  # expected to take longer than the deadline, and does not
        group.costs = slow
        answer, _ = await engine.run(group, "last", Shape(1, 0), soon(5))
        assert answer == "last"
        engine.close()

    in_loop(test)


def test_one_can_wait_for_what_is_being_scored_and_for_nothing_else() -> None:
    async def test() -> None:
        engine, group = Engine(EngineConfig(batch=1)), Sleeper()
        await engine.pass_by()  # nothing is scored
        group.gate.clear()
        first = asyncio.create_task(engine.run(group, "first", Shape(1, 0), soon()))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(engine.run(group, 0.5, Shape(1, 0), soon()))
        passing = asyncio.create_task(engine.pass_by())
        await asyncio.sleep(0.05)
        assert not passing.done()
        group.gate.set()
        await first
        await asyncio.wait_for(passing, 0.3)
        assert not second.done()
        await second
        engine.close()

    in_loop(test)


def test_a_closed_engine_answers_what_waits_and_takes_nothing_more() -> None:
    async def test() -> None:
        engine, group = Engine(EngineConfig(batch=1)), Sleeper()
        group.gate.clear()
        jobs = [asyncio.create_task(engine.run(group, n, Shape(1, 0), soon())) for n in range(3)]
        await asyncio.sleep(0.01)
        engine.close()
        with pytest.raises(Refusal, match="stopping"):
            await engine.run(group, "x", Shape(1, 0), soon())
        group.gate.set()
        assert [answer for answer, _ in await asyncio.gather(*jobs)] == [0, 1, 2]
        assert engine.join(5)

    in_loop(test)


def test_a_worker_that_hangs_is_seen() -> None:
    async def test() -> None:
        engine, group = Engine(EngineConfig()), Sleeper()
        assert engine.is_alive(0.05)
        group.gate.clear()
        job = asyncio.create_task(engine.run(group, "x", Shape(1, 0), soon()))
        await asyncio.sleep(0.1)
        assert not engine.is_alive(0.05)
        group.gate.set()
        await job
        for _ in range(100):  # the worker notes the end of its batch just after the answer
            if engine.is_alive(0.05):
                break
            await asyncio.sleep(0.05)
        assert engine.is_alive(0.05)
        engine.close()

    in_loop(test)


def test_costs_follow_what_batches_take() -> None:
    costs = CostModel.fit(0.001, (100, 0.003), (50, 0.002))
    assert costs.seconds(Shape(0, 0)) == pytest.approx(0.001)
    assert costs.seconds(Shape(100, 50)) == pytest.approx(0.004)
    for _ in range(500):
        costs.learn(costs.seconds(Shape(100, 50)), 0.008)
    assert costs.seconds(Shape(100, 50)) == pytest.approx(0.008, rel=0.05)
