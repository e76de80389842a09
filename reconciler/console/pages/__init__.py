"""The pages: each a function from what was asked to what a template shows. None of them writes."""
