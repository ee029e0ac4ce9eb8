"""What cooperation of the shipped models is worth, on held-out tasks that really are answered wrongly at times."""
