"""Many live streams on one model: sessions, their frames and questions in queues, and the worker that serves them."""
