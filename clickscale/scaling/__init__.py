"""What the next grade is worth: sweeps of runs, the power laws through them, and plans from the laws."""
