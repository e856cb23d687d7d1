"""The commands of ``bitexact``, one file each: ``add_to(commands)`` adds its parser, which names what runs."""
