"""From a model name to an endpoint: groups, balancers, hash ring. Pure: time and chance are passed in."""
