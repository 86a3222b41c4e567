"""Road vehicles as batches of equations, without a physics engine."""
