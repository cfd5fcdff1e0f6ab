"""The life of an alert: episodes, identity, incidents; pure."""
