"""A backend of others that ends while it is imported."""

raise ValueError("a setting of theirs")
