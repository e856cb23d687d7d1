"""Names of the files in the machine part of an artefact, which flows write and machines read."""

LAUNCHES = "launches.json"
VTA_PROFILE = "profile"
HEXAGON_PROGRAM = "kernels.elf"
HEXAGON_TWIN = "kernels-without-vrmpy.elf"
HEXAGON_SHAPES = "shapes.json"
HEXAGON_PRODUCTS = "products.json"
