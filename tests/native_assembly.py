"""Innermost loops in the assembly that the native engine emits."""

import re


def loops(assembly, jump=r"j\w+\s+"):
    """Return the innermost loops of a function's assembly, as lists of instructions."""
    lines = [line.strip() for line in assembly.splitlines()]
    places = {line.split(":")[0]: number for number, line in enumerate(lines) if line.startswith(".L")}
    found = []
    for number, line in enumerate(lines):
        jumps = re.match(jump + r"(\.L\w+)", line)
        if jumps and places.get(jumps[1], number) < number:
            body = lines[places[jumps[1]] + 1 : number + 1]
            if not any(line.startswith(".L") for line in body):
                found.append(body)
    return found
