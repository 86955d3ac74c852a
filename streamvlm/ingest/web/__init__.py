"""Sources on the web, fetched by our own client, every address checked before it is visited."""
