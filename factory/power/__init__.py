"""Power profiles: intents with a promise, and the settings of process and GPU that carry them out."""
