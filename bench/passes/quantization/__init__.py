"""What `bench.passes.quantize` is made of: a translation, and one file for each family of operators."""
