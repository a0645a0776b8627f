"""Who may call what: API keys and their scopes, rate limits, names and origins."""
