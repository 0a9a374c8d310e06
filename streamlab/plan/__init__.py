"""The logical plan: frozen nodes that check themselves where they are written. No clock, no socket, no disk."""
