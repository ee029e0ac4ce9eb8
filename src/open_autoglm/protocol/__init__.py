"""MCP 1.0 on the wire: frames, what is in them, and the state of a connection. Pure.

`docs/protocol.md` says the same for whoever writes a client. Server and client are two roles of one machine
(`connection`), driven by a shell that owns the socket and the clock.
"""
