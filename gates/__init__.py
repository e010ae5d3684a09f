"""Evidence in, verdict out: promote, hold or rollback."""
