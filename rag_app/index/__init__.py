"""The index over a collection's vectors: which there are, building, measuring and choosing one."""
