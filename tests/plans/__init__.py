"""Plans as people write them, and how they are told apart."""
