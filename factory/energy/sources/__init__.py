"""Energy sources; `factory.energy.registry` holds the table of them."""
