"""The promises of the contract, one check each."""
