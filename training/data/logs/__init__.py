"""A site's own log, in CSV, JSONL or Parquet, read by a mapping to what MIND's files give."""
