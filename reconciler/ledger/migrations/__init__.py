"""The ledger's schema, step by step. A step that has been released is never edited; the next one follows it."""
