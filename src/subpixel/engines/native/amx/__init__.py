"""AMX, the matrix unit of Intel's processors from Sapphire Rapids on.

AMX has eight tile registers, each with 16 rows of 64 bytes. Its one product, `tdpbusd`, takes 16 rows of
unsigned bytes and a matrix of signed ones, and adds 16 x 16 accumulators of 32 bits.

With this instruction set, such products compute hidden layers, two rows of the picture at once. For 8-bit
luma, and for most networks of scale 1 between 8-bit planes, they compute the first layer and the last one
too, otherwise vectors do, as with AVX-512 VNNI. `layer` chooses the layers and defines the memory layout,
`pack` arranges weights for it, `products` multiplies, `rows`, `last` and `last_planes` are the code of a
layer's two rows, and `program` is what differs in the function of a network. Everything else is the
generator's: the picture, rows in memory, requantization, flat areas.
"""
