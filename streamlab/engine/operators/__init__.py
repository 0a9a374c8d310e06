"""One module, or folder, per operator; `catalogue` says which step of a plan each does."""
