"""Where shared memory is, how it is found, and which processes hold it."""
