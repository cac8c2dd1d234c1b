"""Weights of EST that are divided among its features, so that a feature can be added to a trained model.

Each feature has weights of its own (an embedding, a tokenizer, queries, outputs, a feed-forward), and tokens
never read each other. So a new feature leaves the weights of the others as they are. Weights that read it
together with others (the tower, the tokenizers of behaviors) begin with zeros for it: the new model scores as
the trained one did, until it learns more.
"""

from torch import nn

from clickscale.features import Features, numeric
from clickscale.layers.per_token import token_names
from clickscale.models._base import FeatureAxis
from clickscale.models._est.est_inputs import EstConfig, embedded_features

# Weights of every token, by the end of their name.
_PER_TOKEN = (
    "attention.query.weight",
    "attention.out.weight",
    "token_query.weight",
    "token_out.weight",
    "token_ffn.enter.weight",
    "token_ffn.leave.weight",
)


def feature_axes(
    model: nn.Module, config: EstConfig, tokens: tuple[str, ...], features: Features
) -> dict[str, FeatureAxis]:
    """Axes of the weights that are divided among features; see `CTRModel.feature_axes`.

    Args:
        config: options of the model, with every ``auto`` decided.
        tokens: names of all its tokens, in order.
        features: those that the model was built from.
    """
    features = embedded_features(features, config)
    fields = token_names(features.profile, features.context, features.item)
    item, behavior = token_names(features.item), token_names(features.item, features.behavior)
    axes = {
        "inputs.tokens.fields": FeatureAxis(0, fields),
        "inputs.tokens.histograms": FeatureAxis(0, tokens[len(fields) :]),
        "head.tower.0.weight": FeatureAxis(1, (*tokens, "mean of behaviors"), 0.0),
        "inputs.recent_rows.weight": FeatureAxis(1, behavior, 0.0),
        "inputs.kept_rows.weight": FeatureAxis(1, behavior, 0.0),
        "inputs.search.learned": FeatureAxis(1, item, 0.0),
        "inputs.search.hash": FeatureAxis(0, item, 0.0),  # a new feature does not change what hashes alike
    }
    sides = {"profile_side": features.profile, "context_side": features.context}
    sides |= {"behavior_side": features.behavior, "items.side": features.item}
    axes |= {f"inputs.{name}": FeatureAxis(0, token_names(numeric(side))) for name, side in sides.items()}
    weights = list(model.state_dict())
    named = {name: axis for name in weights for prefix, axis in axes.items() if name.startswith(prefix)}
    return named | {name: FeatureAxis(0, tokens) for name in weights if name.endswith(_PER_TOKEN)}
