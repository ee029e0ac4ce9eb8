"""Who is let in when not everybody fits: priority classes, wait queues, overload stages, unusual sources."""
