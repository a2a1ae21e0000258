"""Inference: token kernels, the engine that finds their sites, particle filters, results."""
