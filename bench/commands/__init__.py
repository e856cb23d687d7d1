"""The commands of ``bitexact``, one file each; ``add_to(commands)`` adds a parser naming what runs."""
