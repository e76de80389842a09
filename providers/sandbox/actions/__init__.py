"""What can happen in a shop, one module per subject. Every public method is an action that tests may name."""
