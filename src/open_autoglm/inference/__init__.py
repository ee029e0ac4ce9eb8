"""The node: engines that answer over the framed protocol, and the versions of the models that they run."""
