"""Open-AutoGLM: one self-hosted server that turns many models into one reliable model service."""

__version__ = "0.1.0"
