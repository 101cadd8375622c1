"""What noise costs in accuracy, for each mechanism and protection, on recorded predictions."""
