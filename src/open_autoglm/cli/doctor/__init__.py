"""What `autoglm doctor` looks at: the installation, the machine, files, and the models' endpoints."""
