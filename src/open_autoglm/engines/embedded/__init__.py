"""Models of under a million parameters that ship with the package and are computed with numpy."""
