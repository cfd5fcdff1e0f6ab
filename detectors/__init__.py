"""The mind: frame, features, planner, engine, rules and models; pure."""
