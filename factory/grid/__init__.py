"""Messages and signals of the grid: load targets, power states, prices and carbon intensities."""
