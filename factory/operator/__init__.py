"""The operator of a floor: it observes, finds faults, decides between typed actions, acts, and verifies."""
