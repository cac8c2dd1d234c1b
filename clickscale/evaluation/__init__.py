"""Quality of predictions: metrics, calibration, significance, slices.

Everything here works on arrays of labels, logits and user ids: only `evaluate` knows models and data sets.
"""

from clickscale.evaluation.calibration import (
    ReliabilityCurve,
    debiased_ece,
    ece,
    pcoc,
    rectify,
    reliability_curve,
)
from clickscale.evaluation.label_report import (
    ComparisonReport,
    EvaluationReport,
    compare_predictions,
    evaluate_predictions,
)
from clickscale.evaluation.measures import METRICS, Metric
from clickscale.evaluation.metrics import (
    HistogramAUC,
    Weighting,
    auc,
    gauc,
    log_loss,
    rela_impr,
    relative_lift,
)
from clickscale.evaluation.predictions import Predictions, common_rows, concatenate
from clickscale.evaluation.significance import (
    Interval,
    PairedTest,
    delong,
    paired_user_bootstrap,
    seeds_t_test,
    user_bootstrap,
)

__all__ = [
    "auc",
    "gauc",
    "log_loss",
    "rela_impr",
    "relative_lift",
    "HistogramAUC",
    "Weighting",
    "pcoc",
    "ece",
    "debiased_ece",
    "ReliabilityCurve",
    "reliability_curve",
    "rectify",
    "Interval",
    "PairedTest",
    "user_bootstrap",
    "delong",
    "paired_user_bootstrap",
    "seeds_t_test",
    "Predictions",
    "concatenate",
    "common_rows",
    "METRICS",
    "Metric",
    "EvaluationReport",
    "ComparisonReport",
    "evaluate_predictions",
    "compare_predictions",
]
