"""Names of the files in the machine part of an artefact, which flows write and machines read."""

LAUNCHES = "launches.json"
HEXAGON_PROGRAM = "kernels.elf"
HEXAGON_TWIN = "kernels-without-vrmpy.elf"
