"""What the feature-splitting page computes: which SAEs share a map, the map, what fires where."""
