"""MCP messages in JSON. Pure."""
