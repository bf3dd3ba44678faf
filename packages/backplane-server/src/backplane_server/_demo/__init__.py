"""`backplane demo`: a broker, two gateways, a job worker, a page, and a check of them."""
