"""Towers of the presets ``paper``, which are those of the comparing papers, and of the presets ``debug``.

The papers say which tower all models have, not every option of every model; what they leave open is as in the
model's own paper, or else a default of ours.
"""

from clickscale.layers.head import HeadConfig

# Lai et al. 2025, section 4.1.4: of all models, with d = 8; the optimizer is Adam.
SUAN_TOWER = HeadConfig(hidden=(1024, 512, 256), norm="batch", activation="batch_dice")

# Liu et al. 2026 print 83.13 million parameters for their plain tower and no widths; over 53 tokens of width
# 128, these have 83.04 million.
EST_TOWER = HeadConfig(hidden=(6656, 5376, 384, 64), norm="none", activation="relu")

# They print 5.20 million parameters for AutoInt and 15.18 million for DCNv2, so these two had another tower.
SMALL_TOWER = HeadConfig(hidden=(1024, 512), norm="none", activation="relu")

DEBUG_TOWER = HeadConfig(hidden=(16, 8))
