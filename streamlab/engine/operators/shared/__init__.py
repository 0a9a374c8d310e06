"""What several operators are made of, or one of them that would be too long otherwise."""
