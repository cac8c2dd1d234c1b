import torch
from torch import Tensor

from clickscale.layers.bias import AttentionBias
from clickscale.layers.retrieval import ContentTable
from clickscale.layers.visibility import Visibility
from clickscale.models._est.content_attention import NeighborRule
from clickscale.models._est.est_inputs import Timeline
from clickscale.models._est.light_stack import LightStack, TimelineState
from tests.models.toy import toy_batch, with_candidates

N, D, RECENT = 3, 8, 4


def stack_of(rule: NeighborRule | None) -> LightStack:
    torch.manual_seed(0)
    return LightStack(
        N,
        D,
        2,
        2,
        (5, 6),
        bias=AttentionBias("shared", 1, 1, 12, "octave"),
        recent=RECENT,
        rule=rule,
        table=ContentTable([torch.randn(30, 3).numpy()]),
    )


def state_of(stack: LightStack, items: Tensor, times: Tensor, rows: Tensor) -> TimelineState:
    timeline = Timeline(items, times, rows, rows[:, :1])
    return TimelineState.of(timeline, stack.encode(rows, items))


def test_appended_behaviors_are_encoded_as_in_the_whole_history() -> None:
    items, rows = torch.randint(1, 30, (2, 9)), torch.randn(2, 9, D)
    for rule in (None, NeighborRule(count=3, causal=True, window=RECENT)):
        stack = stack_of(rule)
        before = state_of(stack, items[:, :6], items[:, :6], rows[:, :6])
        whole, longer = stack.encode(rows, items), stack.encode(rows[:, 6:], items, before)
        for name in ("keys", "values", "rows"):
            pairs = zip(getattr(whole, name), getattr(longer, name), strict=True)
            assert all(torch.allclose(first, second, atol=1e-6) for first, second in pairs)
        assert torch.allclose(whole.sums, longer.sums, atol=1e-5)
        assert bool(whole.rows) == (rule is not None)


def test_the_state_serves_candidates_that_see_what_it_holds_and_no_others() -> None:
    batch = toy_batch(rows=2, candidates=3, full=True)
    items, times = batch.user.items, batch.user.times
    rows = torch.randn(2, 12, D)
    late = Visibility.of(batch.candidates, items, times)
    early = Visibility.of(
        with_candidates(batch, visible=torch.tensor([[12, 8, 5]] * 2)).candidates, items, times
    )
    causal, literal = (
        stack_of(NeighborRule(causal=True, window=RECENT)),
        stack_of(NeighborRule(causal=False)),
    )
    state = state_of(causal, items, times, rows)
    for visibility in (late, early):
        sequence = causal.recent_of_state(state, visibility, visibility.newest(RECENT))
        assert sequence is not None
        assert sequence.count.flatten().tolist() == [RECENT] * 6
    cut = state.newest(RECENT)
    assert cut.encoded_length == RECENT
    assert causal.recent_of_state(cut, late, late.newest(RECENT)) is not None
    assert causal.recent_of_state(cut, early, early.newest(RECENT)) is None
    window = state_of(literal, items[:, -RECENT:], times[:, -RECENT:], rows[:, -RECENT:])
    assert literal.recent_of_state(window, late, late.newest(RECENT)) is not None
    assert literal.recent_of_state(window, late, late.newest(RECENT - 1)) is None


def test_the_mean_is_over_the_rows_that_a_candidate_sees() -> None:
    batch = toy_batch(rows=2, candidates=3, full=True)
    seen = with_candidates(batch, visible=torch.tensor([[12, 8, 0]] * 2))
    visibility = Visibility.of(seen.candidates, batch.user.items, batch.user.times)
    stack, rows = stack_of(None), torch.randn(2, 12, D)
    state = state_of(stack, batch.user.items, batch.user.times, rows)
    sequence = stack.recent_of_state(state, visibility, visibility.newest(RECENT))
    assert sequence is not None
    _, mean = stack(torch.randn(N, 6, D), (sequence,))
    last = rows
    for block in stack.typed_blocks():
        last = block.behaviors(last, block.row_norm(last), None)
    expected = [last[row, first:end].mean(dim=0) for row in range(2) for first, end in ((8, 12), (4, 8))]
    assert torch.allclose(mean[[0, 1, 3, 4]], torch.stack(expected), atol=1e-5)
    assert not mean[[2, 5]].any()
