"""Graph passes: quantisation, and each target's rewriting of an integer graph."""
