"""The finance report: a pure function of the ledger's facts as of an instant, and of its parameters."""
