"""What is kept of a stream, and what a question gets of it: one policy a file, chosen by name."""
