"""The cost of one model: parameters, floating point operations, latency."""
