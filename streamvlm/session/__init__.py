"""One stream: watch frames, answer questions about them, keep the dialogue, check standing questions."""
