"""The test kit that is shipped: whole servers in virtual time, on a network and a disk that fail as a seed says.

`docs/testing-kit.md` shows how to use it for a gateway of one's own. Nothing that serves requests imports it.
"""
