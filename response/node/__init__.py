"""What nodes carry out: commands from the responder, obeyed by an agent with the kernel's tables."""
