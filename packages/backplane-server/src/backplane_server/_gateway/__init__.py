"""The gateway: who may do what, the app, and the process that serves it."""
