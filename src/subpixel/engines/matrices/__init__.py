"""Networks in 8 bits by AMX, the matrix unit of Intel's processors from Sapphire Rapids on.

Halide finds products of matrices too, but holds one matrix of sums at a time and loads its weights anew for
each. Here the code is written instruction by instruction where it decides the speed, as LLVM's assembly, by
way of llvmlite: `layout` says what lies where, `pack` lays a model out so, `program` is the code, `products`
what is summed up in it and `values` what becomes of the sums, `kernel` compiles and calls it.
`docs/research/2026-11-27-engine.md` tells the whole story.
"""
