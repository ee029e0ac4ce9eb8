"""Many answers to one question, and one decision: pure machines, one file a strategy."""
