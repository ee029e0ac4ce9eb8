"""Breakers, rate limiters, concurrency caps, retry budgets, deadlines. Pure."""
