"""One module per command: `configure(parser)` says what may be typed, `run(arguments, terminal)` does it."""
