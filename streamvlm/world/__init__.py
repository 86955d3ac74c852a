"""The synthetic world: seeded streams whose every event is known, as pictures, questions and truths.

Used by training, tests, demos and benchmarks. It knows nothing of models or memory.
"""
