"""The commands of ``bitexact``, one file each; its ``add_to(commands)`` adds a parser that names what runs."""
