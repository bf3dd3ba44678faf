"""The processes that are measured, a module for each measurement; all start as `python -m bench.workers`."""
