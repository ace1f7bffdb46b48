"""Int8 networks in vector instructions: one generator of code for every instruction set.

`plan` defines the memory layout and the tiles, `pack` converts a model to it. `program` is the generated
code, with the layers in `hidden` and `last`, and the requantization in `requantize`. `kernel` compiles and
calls it. `instructions` is the interface of an instruction set, and each has a file of its own, listed in
`targets`.
"""
