"""The tools of the contract kit: links and pods under test, waits with a deadline, the index of checks."""
