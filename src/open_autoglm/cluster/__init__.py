"""The role of a cluster's member: membership on sockets, beside a server or a node."""
