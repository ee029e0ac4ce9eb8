"""What has to survive the process: journals on SQLite."""
