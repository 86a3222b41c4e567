"""Where joules come from: hardware counters, integrated power, a CPU-time model, or a recording."""
