"""Measurements of what the gateway does when something is wrong: one script for each published figure."""
