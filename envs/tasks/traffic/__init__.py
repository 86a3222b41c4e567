"""Road traffic: junctions from a lane graph, many cars a scene, each an agent with episodes of its own."""
