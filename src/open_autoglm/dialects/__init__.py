"""What each model API says on the wire, and translation between them. Pure."""
