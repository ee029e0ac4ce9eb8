"""From a model name to an endpoint: groups, balancers, hash ring, route table. Pure: time and chance are passed in."""
