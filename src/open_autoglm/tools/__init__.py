"""What tasks may use: Python functions, HTTP services, servers of the context protocol; each behind limits."""
