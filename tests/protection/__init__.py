"""Data protection: what is sealed, what is forgotten, who may do what, and what is never said."""
