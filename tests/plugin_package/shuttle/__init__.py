"""A toy plug-in for robot-factory: one file for each component, and one for its settings."""
