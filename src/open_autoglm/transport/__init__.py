"""Bytes on the wire: the two HTTP/1.1 shells."""
