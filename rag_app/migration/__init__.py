"""A collection becomes what the configuration says, beside the one that answers meanwhile.

In: a configuration, and a collection that another one made. Out: a `Plan`, and the switch of an
alias. Read `plan.py` (what differs, and what that costs) first, then `migrate.py`.
"""
