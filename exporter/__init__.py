"""On a node: sources, flow table, cuts, and where rows go."""
