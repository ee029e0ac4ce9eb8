"""The framed path measured: one process is client and node, another is the server between them."""
