"""The door for `python -m mcp_server`; the house is `open_autoglm`."""
