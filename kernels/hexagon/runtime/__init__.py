"""The function server in C that is linked into every Hexagon ELF."""
