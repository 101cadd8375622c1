"""Kill the processes of a federation at random, then check from the topics what it promised."""
