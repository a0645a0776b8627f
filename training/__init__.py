"""From click logs to adapters that the service serves. Each step reads and writes files."""
