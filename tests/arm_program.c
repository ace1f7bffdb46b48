/* Calls a program of `subpixel.engines.history` on 64-bit Arm: `arm_program LIBRARY FUNCTION AT_END < input > output`.

   The input, in 64-bit integers: the number of arrays, for each its size and its bytes, the number of arguments,
   and for each the number of its array or -1, and the offset in the array or the value. The output: the bytes of
   the arrays. Each array ends at a page without access, or begins there. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, MOST = 64 };

static void get(void *to, int64_t size) {
    if (fread(to, 1, size, stdin) != (size_t)size) exit(2);
}

static int64_t number(void) {
    int64_t value;
    return get(&value, sizeof value), value;
}

static char *guarded(int64_t size, int at_end) {
    int64_t inside = (size + PAGE - 1) / PAGE * PAGE;
    char *memory = mmap(0, inside + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory + PAGE, inside, PROT_READ | PROT_WRITE)) exit(3);
    return memory + PAGE + (at_end ? inside - size : 0);
}

int main(int count, char **names) {
    void *library = dlopen(names[1], RTLD_NOW);
    if (!library) return fprintf(stderr, "%s\n", dlerror()), 2;
    int (*function)(int64_t *) = (int (*)(int64_t *))dlsym(library, names[2]);
    int64_t sizes[MOST], arguments[MOST], arrays = number();
    char *at[MOST];
    for (int64_t array = 0; array < arrays; array++) {
        sizes[array] = number();
        get(at[array] = guarded(sizes[array], *names[3] == '1'), sizes[array]);
    }
    int64_t given = number();
    for (int64_t argument = 0; argument < given; argument++) {
        int64_t array = number(), value = number();
        arguments[argument] = array < 0 ? value : (intptr_t)at[array] + value;
    }
    if (!function || function(arguments)) return 4;
    for (int64_t array = 0; array < arrays; array++) fwrite(at[array], 1, sizes[array], stdout);
    return 0;
}
