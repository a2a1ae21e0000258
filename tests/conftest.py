"""Test-wide settings, made before JAX is imported."""

import os

# Callbacks can deadlock on two cores without spare threads; tests compile much and run little.
os.environ.setdefault("NPROC", "4")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
