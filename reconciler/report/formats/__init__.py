"""The report on paper: one module per format, all of them over the same `Report` and none of them doing sums of it."""
