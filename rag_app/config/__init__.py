"""The configuration: where its values come from, and what they may be.

In: `config.toml`, a profile, the environment, overrides. Out: a frozen `Config` of typed sections.
Read `sections.py` (the keys) first, then `loader.py` (where values come from).
"""
