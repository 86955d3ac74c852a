"""What is right: suites of questions whose answers are known."""
