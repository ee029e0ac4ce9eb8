"""The request path: who, how much, where; then an exchange."""
