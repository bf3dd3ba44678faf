"""What code without an event loop uses: one loop of the process on a thread, and a way in that never waits for it."""
