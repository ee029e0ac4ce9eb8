"""One request from first byte to last: attempts, retries, fallbacks, deadlines, mid-stream rules. Pure."""
