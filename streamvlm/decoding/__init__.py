"""Where memory meets the model: contexts, the seam into the attention, probes and answers."""
