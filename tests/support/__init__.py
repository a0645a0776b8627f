"""What tests share: models, services, clients, long commands."""
