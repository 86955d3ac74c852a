"""Measure how right answers are: suites of questions whose answers are known."""
