"""Towers of the presets ``paper`` of the models that Liu et al. (2026) compare with.

The paper says that all models have one tower, not how wide it is, nor every option of every model; what it
leaves open is as in the model's own paper, or else a default of ours.
"""

from clickscale.layers.head import HeadConfig

# 83.13 million parameters are printed for the plain tower; over 53 tokens of width 128, these have 83.04.
EST_TOWER = HeadConfig(hidden=(6656, 5376, 384, 64), norm="none", activation="relu")

# 5.20 million are printed for AutoInt and 15.18 million for DCNv2, so these two had another tower.
SMALL_TOWER = HeadConfig(hidden=(1024, 512), norm="none", activation="relu")
