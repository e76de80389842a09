"""Which columns each section of the report has: one module a subject, one line a column."""
