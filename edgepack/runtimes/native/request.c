#include "request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tensors.h"

enum { MOST_THREADS = 1024 };
static const int64_t MOST_RUNS = 1000000000;
static const double MOST_SECONDS = 1e9;

/* What is left of an argument after `name=`; NULL where it is another one. */
static const char *value_of(const char *argument, const char *name)
{
    size_t length = strlen(name);
    bool same = strncmp(argument, name, length) == 0 && argument[length] == '=';
    return same ? argument + length + 1 : NULL;
}

static bool read_count(const char *text, int64_t most, int64_t *count)
{
    char *end = NULL;
    errno = 0;
    long long found = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || found < 0 || found > most) return false;
    *count = found;
    return true;
}

static bool read_seconds(const char *text, int64_t *nanoseconds)
{
    char *end = NULL;
    double found = strtod(text, &end);
    if (end == text || *end != '\0' || !(found >= 0 && found <= MOST_SECONDS)) return false;
    *nanoseconds = (int64_t)(found * 1e9);
    return true;
}

/* `int8:1,32,32,3`; nothing after the colon is a scalar. */
static bool read_type(const char *text, LiteRtTensorType *type)
{
    char name[16];
    const char *colon = strchr(text, ':');
    if (colon == NULL || (size_t)(colon - text) >= sizeof name) return false;
    memcpy(name, text, (size_t)(colon - text));
    name[colon - text] = '\0';
    memset(type, 0, sizeof *type);
    type->element = element_code(name);
    if (type->element == 0) return false;
    unsigned int rank = 0;
    for (const char *place = colon; colon[1] != '\0' && *place != '\0';) {
        char *end = NULL;
        errno = 0;
        long size = strtol(place + 1, &end, 10); /* reads nothing after a last comma */
        bool whole = end != place + 1 && (*end == ',' || *end == '\0') && errno == 0;
        if (!whole || size < 1 || size > INT32_MAX || rank == LITERT_MAX_RANK) return false;
        type->layout.dimensions[rank++] = (int32_t)size;
        place = end;
    }
    type->layout.rank = rank & 0x7fU;
    return true;
}

/* `0,1`: numbers of cores. */
static bool read_cores(const char *text, cpu_set_t *cores)
{
    CPU_ZERO(cores);
    for (const char *place = text;; place++) {
        char *end = NULL;
        errno = 0;
        bool digit = *place >= '0' && *place <= '9'; /* no sign, no space */
        unsigned long core = digit ? strtoul(place, &end, 10) : CPU_SETSIZE;
        if (core >= CPU_SETSIZE || errno != 0 || (*end != ',' && *end != '\0')) return false;
        CPU_SET(core, cores);
        if (*end == '\0') return true;
        place = end;
    }
}

static bool read_path(const char *text, const char **path)
{
    *path = text;
    return *text != '\0';
}

static bool read_argument(Request *request, const char *argument)
{
    const char *value = NULL;
#define IF_NAMED(name, act) \
    if ((value = value_of(argument, name)) != NULL) return act
    IF_NAMED("library", read_path(value, &request->library));
    IF_NAMED("model", read_path(value, &request->model));
    IF_NAMED("inputs", read_path(value, &request->inputs));
    IF_NAMED("outputs", read_path(value, &request->outputs));
    IF_NAMED("input", read_type(value, &request->given[request->given_count++]));
    IF_NAMED("samples", read_count(value, MOST_RUNS, &request->samples));
    IF_NAMED("threads", read_count(value, MOST_THREADS, &request->threads));
    IF_NAMED("cores", read_cores(value, &request->cores));
    IF_NAMED("probe", read_count(value, 1, &request->probe));
    IF_NAMED("predict", read_count(value, 1, &request->predict));
    IF_NAMED("per_op", read_count(value, 1, &request->per_op));
    IF_NAMED("stateful", read_count(value, 1, &request->stateful));
    IF_NAMED("warmup_runs", read_count(value, MOST_RUNS, &request->warmup_runs));
    IF_NAMED("runs", read_count(value, MOST_RUNS, &request->runs));
    IF_NAMED("warmup_seconds", read_seconds(value, &request->warmup_ns));
    IF_NAMED("warmup_max_seconds", read_seconds(value, &request->warmup_max_ns));
    IF_NAMED("min_seconds", read_seconds(value, &request->min_ns));
    IF_NAMED("max_seconds", read_seconds(value, &request->max_ns));
#undef IF_NAMED
    return false;
}

bool read_request(Request *request, int count, char **arguments, Reply *reply)
{
    request->given = calloc((size_t)count + 1, sizeof *request->given);
    if (request->given == NULL) return fail(reply, "request", "out of memory");
    request->threads = 1;
    for (int place = 1; place < count; place++)
        if (!read_argument(request, arguments[place]))
            return fail(reply, "request", "the argument %s means nothing", arguments[place]);
    if (request->library == NULL) return fail(reply, "request", "library=... is missing");
    if (request->probe != 0) return true;
    if (request->model == NULL || request->inputs == NULL || request->outputs == NULL)
        return fail(reply, "request", "model=..., inputs=... or outputs=... is missing");
    if (request->samples < 1) return fail(reply, "inputs", "at least one sample is needed");
    return true;
}
