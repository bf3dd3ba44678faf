"""The Pusher protocol, version 7, over a fleet: what clients say on a socket, and what servers ask for by HTTP."""
