"""Programs to run first: `two_pods.py` shows a fleet, `quickstart.py` the smallest use."""
