"""The section of a sweep's page about models at equal operations of training."""

from clickscale.report import scaling_plots
from clickscale.report.page import PageTable, Section
from clickscale.report.scaling_plots import LadderLine
from clickscale.scaling.laws import Laws


def equal_operations_section(laws: Laws) -> Section:
    """AUC against operations of training, and which model is ahead at which budget."""
    fits = [fit.ladder for fit in laws.ladders if fit.ladder.axis == "data"]
    models = [ladder.model for ladder in fits]
    lines = [LadderLine(ladder.model, ladder.operations, ladder.rungs().values) for ladder in fits]
    rows = [
        [f"{row.operations:.3g}", *(row.told(name) for name in models), row.lead_told] for row in laws.equal
    ]
    places = "; ".join(dict.fromkeys(ladder.fixed for ladder in fits))
    title = f"AUC against operations of training ({places})"
    plot = scaling_plots.ladder(
        title, "operations of all training steps", lines, laws.sweep.models, best=laws.sweep.best_auc
    )
    return Section(
        "At equal operations of training",
        "A cheap model sees more of the data for the operations that an expensive one spends on a part.",
        tables=[PageTable(("operations", *models, "ahead of the next by"), rows)],
        plots=[plot],
        plots_first=True,
        note="Between two rungs, AUC is read off a straight line over the logarithm of the operations. A "
        "column without a number: the ladder of the model does not reach there.",
    )
