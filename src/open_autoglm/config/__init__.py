"""The configuration: schema, loading, reload. The only package that knows YAML and the environment."""
