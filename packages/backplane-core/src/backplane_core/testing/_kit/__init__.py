"""What the checks of the contract kit stand on."""
