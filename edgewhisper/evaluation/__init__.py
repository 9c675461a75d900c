"""What a variant costs in word error rate, and whether that is more than chance."""
