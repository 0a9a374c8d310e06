"""What operators hold: rows found by key, by time, or by both, in memory and as frames for a store."""
