"""State: segments and checkpoints on disk, who holds them, and where they are."""
