"""Breakers, rate limiters, retry budgets, backoff, deadlines. Pure: time and chance are passed in."""
