"""What each aggregation rule makes of recorded predictions: accuracy, robustness, health, cost."""
