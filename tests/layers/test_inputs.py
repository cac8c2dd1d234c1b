import numpy as np
import pytest
import torch
from msgspec.structs import replace

from clickscale.features import Feature, Features
from clickscale.layers import inputs as inputs_module
from clickscale.layers.embedding import FusedEmbedding
from clickscale.layers.inputs import Inputs, ItemTable
from tests.models.toy import features, item_columns, toy_batch, with_user

D = 4


def inputs(made: Features | None = None) -> Inputs:
    torch.manual_seed(0)
    return Inputs(made or features(), item_columns(), D)


def test_widths_follow_the_fields() -> None:
    made = inputs()
    assert made.item_width == 4 * D  # id, tags, price, text
    assert made.width == 6 * D  # and action, dwell
    assert (made.profile_tokens, made.context_tokens) == (2, 2)


def test_each_item_is_its_fields_in_order() -> None:
    made, columns = inputs(), item_columns()
    table = made.items
    with torch.no_grad():
        table.side.bias.normal_()
        table.side.missing.normal_()
        items = torch.tensor([[5, 0, 7], [7, 29, 5]])
        found = table(made.table, items).view(2, 3, 4, D)
        for row, place, item in [(0, 0, 5), (0, 2, 7), (1, 0, 7), (1, 1, 29)]:
            tags = [tag for tag in columns["field.tags"][item] if tag]
            mean = made.table.weight[made.table.offsets["tags"] + np.array(tags)].mean(dim=0)
            price = float(columns["field.price"][item])
            number = (
                table.side.missing[0]
                if np.isnan(price)
                else price * table.side.weight[0] + table.side.bias[0]
            )
            text = table.projections["text"].weight @ torch.from_numpy(columns["field.text"][item]).float()
            first = made.table.weight[made.table.offsets["item"] + item]
            expected = torch.stack([first, mean, number, text])
            torch.testing.assert_close(found[row, place], expected, rtol=0, atol=1e-6)
    assert np.isnan(columns["field.price"][7])
    assert not found[0, 1].any()  # padding, though its price and text are not zero
    assert np.abs(columns["field.text"][0]).sum() > 0


def test_a_behavior_has_its_event_fields_and_a_candidate_zeros_there() -> None:
    made, batch = inputs(), toy_batch()
    with torch.no_grad():
        made.behavior_side.missing.fill_(1)
    behaviors, candidates = made.behaviors(batch.user), made.candidates(batch.candidates)
    assert behaviors.shape == (5, 12, made.width)
    assert candidates.shape == (5, 4, made.width)
    assert not candidates[..., made.item_width :].any()
    assert torch.equal(candidates[..., : made.item_width], made.candidate_items(batch.candidates))
    assert not behaviors[~batch.user.mask].any()
    assert behaviors[batch.user.mask][:, made.item_width :].abs().sum(dim=1).all()


def test_garbage_in_the_attributes_of_padding_is_not_read() -> None:
    made, batch = inputs(), toy_batch()
    garbage = torch.where(batch.user.mask[..., None], batch.user.actions, 3)
    numbers = torch.where(batch.user.mask[..., None], batch.user.action_numbers, 1e9)
    changed = with_user(batch, actions=garbage, action_numbers=numbers)
    assert torch.equal(made.behaviors(batch.user), made.behaviors(changed.user))


@pytest.mark.parametrize("columns", [1, 3])
def test_behaviors_that_recur_are_embedded_once_and_give_the_same(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of events that have categorical attributes only: one of one value, or one more of two."""
    action, marks = (
        Feature(name="action", kind="categorical", size=6),
        Feature(name="marks", kind="categorical", size=5, values=2),
    )
    made = inputs(replace(features(), behavior=(action, marks) if columns > 1 else (action,)))
    batch = toy_batch()
    actions = torch.randint(0, 5, (*batch.user.items.shape, columns))  # some missing, garbage at padding
    user = with_user(batch, actions=actions, action_numbers=batch.user.action_numbers[..., :0]).user
    rows = torch.randn(*user.items.shape, made.width)

    def found(many: int) -> tuple[torch.Tensor, ...]:
        monkeypatch.setattr(inputs_module, "MANY", many)
        tokens = made.behaviors(user)
        made.zero_grad()
        (tokens * rows).sum().backward()
        gradients = [p.grad.to_dense() for p in made.parameters() if p.grad is not None]
        return tokens.detach(), *gradients

    joined: list[int] = []
    embed = made.items.forward
    monkeypatch.setattr(made.items, "forward", lambda *asked: joined.append(asked[1].dim()) or embed(*asked))
    once, apart = found(10_000), found(0)
    assert joined == [1, 2]  # distinct behaviors in a row, then all in their places
    assert torch.equal(once[0], apart[0])
    for mine, other in zip(once[1:], apart[1:], strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)
    assert not once[0][~user.mask].any()


def test_the_context_is_flat_and_the_profile_is_not() -> None:
    made, batch = inputs(), toy_batch()
    assert made.profile(batch.user).shape == (5, 2, D)
    assert made.context(batch.candidates).shape == (5, 4, 2 * D)


def test_a_log_of_ids_alone_makes_tokens_of_one_field() -> None:
    bare = Features(
        profile=(Feature(name="user", kind="categorical", size=12),),
        behavior=(),
        item=(Feature(name="item", kind="categorical", size=30),),
        context=(),
        items=30,
        labels=("click",),
    )
    made, batch = inputs(bare), toy_batch()
    nothing = with_user(
        batch, actions=batch.user.actions[..., :0], action_numbers=batch.user.action_numbers[..., :0]
    )
    assert made.width == made.item_width == D
    assert made.behaviors(nothing.user).shape == (5, 12, D)


def test_columns_may_be_read_only() -> None:
    columns = item_columns()
    for column in columns.values():
        column.flags.writeable = False
    item = features().item
    ItemTable(item, columns, FusedEmbedding(item, D), D)
