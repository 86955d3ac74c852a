"""All that reads what strangers send: bodies, JSON, pictures, URLs. Each reader has its bounds."""
