"""Secure sums: shares of answers, which set of them is proposed, which one is ever released."""
