"""A randomised fleet over a real broker that is hurt, and a ledger of all that it published, heard and reported.

    uv run python -m tests.product.ledger 4711          # one run, by its seed
    uv run python -m tests.product.ledger --long        # an hour of them

A seed is a `Plan`: the broker, its settings, the pods, publishers and connections, and the faults. `World` plays it,
`Book` is what was written down meanwhile, `find_violations` is what no promise explains. The rule: each connection gets
every event that it should have got exactly once and in order; or the event lies inside a gap that was reported to that
very connection; or its sender counted it. A new kind of fault is one class in `faults`, registered there.
"""
