"""The foundation of the checks in the contract kit."""
