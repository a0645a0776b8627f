"""Access control: API keys and their scopes, rate limits, host names and origins."""
