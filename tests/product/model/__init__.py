"""The deterministic model: seeded runs of the real code over a broker that fails, in virtual time."""
