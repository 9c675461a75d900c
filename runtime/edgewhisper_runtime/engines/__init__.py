"""What computes: one module for each engine, behind the decoding loop's seam."""
