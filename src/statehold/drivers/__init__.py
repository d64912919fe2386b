"""The backends where states live: one module each, and none imports another."""
