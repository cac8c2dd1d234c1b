"""The causal stack that SUAN and LightSUAN share."""
