"""The words every package shares; imports nothing of ours."""
