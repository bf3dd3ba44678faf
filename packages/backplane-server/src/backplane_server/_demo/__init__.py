"""What `backplane demo` starts, shows and checks: a broker, two gateways, a job worker, and a page."""
