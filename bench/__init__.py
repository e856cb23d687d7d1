"""bitexact: what a user touches - passes, flows, devices, comparison and the command line."""
