"""Layouts in other languages."""
