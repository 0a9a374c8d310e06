"""Pure operators: state in, batch in; results out. No clock, no socket, no disk."""
