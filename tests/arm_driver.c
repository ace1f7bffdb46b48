/* Calls a kernel of the native engine on 64-bit Arm: `driver KERNEL.so < input > output`.

   The input: the size of the parameters (a 64-bit integer) and the parameters; then for each call the sizes of
   lr, working memory and hr, the offset of the result in hr, the 15 arguments (`program.ARGUMENTS`; the four
   addresses are filled in here) and lr. The output: hr after each call. Each array ends (or, in every second
   call, begins) at a page without access. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, LR = 0, PARAMETERS = 5, WORKING = 6, HR = 8 };

static void *guarded(int64_t size, int at_end, int64_t alignment) {
    int64_t inside = (size + PAGE - 1) / PAGE * PAGE;
    char *memory = mmap(0, inside + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory + PAGE, inside, PROT_READ | PROT_WRITE)) exit(3);
    memset(memory + PAGE, 0xAA, inside);
    if (!at_end) return memory + PAGE;
    return memory + PAGE + inside - (size + alignment - 1) / alignment * alignment;
}

static void release(void *array, int64_t size) {
    char *page = (char *)((intptr_t)array / PAGE * PAGE);
    munmap(page - PAGE, (size + PAGE - 1) / PAGE * PAGE + 2 * PAGE);
}

static int get(void *to, int64_t size) { return fread(to, 1, size, stdin) == (size_t)size; }

int main(int count, char **names) {
    void *library = dlopen(names[1], RTLD_NOW);
    if (!library) return fprintf(stderr, "%s\n", dlerror()), 2;
    int (*kernel)(int64_t *) = (int (*)(int64_t *))dlsym(library, "upscale");
    int64_t size;
    if (!kernel || !get(&size, sizeof size)) return 2;
    void *given = malloc(size);
    if (!get(given, size)) return 2;
    struct { int64_t lr, working, hr, offset, arguments[15]; } call;
    for (int number = 0; get(&call, sizeof call); number++) {
        int at_end = number % 2 == 0;
        char *lr = guarded(call.lr, at_end, 1), *hr = guarded(call.hr, at_end, 1);
        char *working = guarded(call.working, at_end, 64), *parameters = guarded(size, at_end, 64);
        if (!get(lr, call.lr)) return 2;
        memcpy(parameters, given, size);
        call.arguments[LR] = (intptr_t)lr;
        call.arguments[PARAMETERS] = (intptr_t)parameters;
        call.arguments[WORKING] = (intptr_t)working;
        call.arguments[HR] = (intptr_t)hr + call.offset;
        if (kernel(call.arguments)) return 4;
        fwrite(hr, 1, call.hr, stdout);
        release(lr, call.lr), release(hr, call.hr), release(working, call.working), release(parameters, size);
    }
    return 0;
}
