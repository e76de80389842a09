"""Providers: one folder each. The core finds them by name and knows nothing else about them."""
