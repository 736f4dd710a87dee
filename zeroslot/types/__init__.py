"""What a declaration means in memory: pure, no I/O."""
