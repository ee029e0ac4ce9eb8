"""The fault suite, ours beside others."""
