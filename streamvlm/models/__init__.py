"""One adapter a model family, each around a stock Hugging Face decoder; none knows of memory or questions' timing."""
