"""Exact oracles: small programs and samplers enumerated, in plain Python, apart from the code they judge."""
