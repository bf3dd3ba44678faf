"""The loop, the process, the clocks.

And all that calls back into the host: observers, logs, states.
"""
