"""What `autoglm bench` does: a closed loop of connections, the knee of what it measured, a picture of it."""
