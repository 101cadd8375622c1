"""What noise an answer carries and what it costs: mechanisms from OpenDP, charges and budgets."""
