#include "litert.h"

#include <dlfcn.h>
#include <string.h>

/* A function pointer cannot be cast from a void pointer in C, but has its representation here. */
_Static_assert(sizeof(void (*)(void)) == sizeof(void *), "POSIX says so");

static const char *find(void *library, const char *name, void *call)
{
    (void)dlerror();
    void *found = dlsym(library, name);
    if (found == NULL) {
        const char *reason = dlerror();
        return reason != NULL ? reason : name;
    }
    memcpy(call, &found, sizeof found);
    return NULL;
}

const char *litert_open(LiteRt *lite, const char *path)
{
    lite->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (lite->library == NULL) {
        const char *reason = dlerror();
        return reason != NULL ? reason : "it cannot be loaded";
    }
    const char *missing = NULL;
#define LITERT_FIND(result, name, arguments) \
    if (missing == NULL) missing = find(lite->library, "LiteRt" #name, &lite->name);
    LITERT_CALLS(LITERT_FIND)
#undef LITERT_FIND
    return missing;
}

const char *litert_status(int status)
{
    switch (status) {
    case 0: return "ok";
    case 1: return "invalid argument";
    case 2: return "out of memory";
    case 3: return "runtime failure";
    case 4: return "missing input tensor";
    case 5: return "unsupported";
    case 6: return "not found";
    case 8: return "wrong version";
    case 500: return "the file cannot be read";
    case 501: return "no valid flatbuffer";
    case 504: return "it cannot be compiled";
    case 1000: return "index out of bounds";
    default: return "an error";
    }
}
