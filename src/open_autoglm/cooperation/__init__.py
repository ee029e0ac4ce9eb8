"""Virtual models: one name behind which several models, tools and votes work on one answer."""
