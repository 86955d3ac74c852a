"""Sources on the web, fetched by our own client, which checks every address before it connects."""
