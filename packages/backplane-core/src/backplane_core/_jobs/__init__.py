"""Jobs, each for one worker of the fleet."""
