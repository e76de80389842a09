"""Bank statements as files: read whole, refused where their own totals do not foot."""
