"""Model families: one adapter each, around a stock Hugging Face decoder; none knows of memory or of stream time."""
