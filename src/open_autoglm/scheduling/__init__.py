"""Task graphs: what may run now, what waits for what, what becomes of the rest when something fails. Pure."""
