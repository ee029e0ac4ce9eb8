"""Engines run models: continuous batching over what computes one step, off the event loop."""
