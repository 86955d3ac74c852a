"""How well StreamVLM answers: sets with known answers, and the scores on them."""
