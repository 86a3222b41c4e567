"""The process: devices, ranks, seeds, CUDA graphs, versions and files."""
