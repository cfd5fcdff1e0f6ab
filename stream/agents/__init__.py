"""The agents: each a thin shell that turns records into a stage's words and its words into records."""
