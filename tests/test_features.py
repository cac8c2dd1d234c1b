from clickscale.features import categorical, content, numeric
from tests.models.toy import features


def test_features_are_told_apart_by_kind() -> None:
    item = features().item
    assert [feature.name for feature in categorical(item)] == ["item", "tags"]
    assert [feature.name for feature in numeric(item)] == ["price"]
    assert [feature.name for feature in content(item)] == ["text"]
