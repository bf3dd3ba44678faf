"""`python -m backplane_server` is the `backplane` command, for where no script is on PATH."""

from backplane_server import main

main()
