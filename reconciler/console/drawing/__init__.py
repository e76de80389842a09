"""Tables, templates, files to take away, charts: what pages are made of."""
