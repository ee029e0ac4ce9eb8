"""The drill of live updates: streams that run, versions that are swapped under them, and a checker of every token."""
