"""From click logs to adapters that the service serves, by commands that read and write files."""
