"""Still pictures and animations, decoded from their bytes."""
