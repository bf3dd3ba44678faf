"""The loop, the process, the clocks.

And everything that calls back into the host: observers, logs, states.
"""
