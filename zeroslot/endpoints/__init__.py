"""The handles that write and read samples."""
