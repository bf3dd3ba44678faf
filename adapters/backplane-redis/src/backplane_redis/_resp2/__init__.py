"""Links over RESP2, which needs a connection for each direction."""
