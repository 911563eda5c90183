/* What the runner answers: one JSON object, a failure beside what was measured before it. */
#ifndef EDGEPACK_REPLY_H
#define EDGEPACK_REPLY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "litert.h"

/* Nanoseconds of single inferences, in the order in which they were taken. */
typedef struct {
    int64_t *taken_ns;
    size_t count, room;
} Samples;

/* One operator of an inference, and what it took in each of those that were profiled. */
typedef struct {
    char *name; /* owned */
    bool delegated;
    uint64_t *taken_us; /* owned */
    double us;          /* typically */
} Operator;

/* Whether the speed had settled when the warm-up ended. */
typedef enum { UNJUDGED, UNSETTLED, SETTLED } Settled;

/* A number below 0, an empty kind or a NULL is left out: it was not reached. */
typedef struct {
    const char *delegate;
    int threads, tasks;
    int64_t init_ns, first_ns;
    int64_t peak_bytes, share_bytes;
    bool since_load;
    int64_t warmup_runs;
    Settled settled;
    bool measured;
    Samples samples;
    const struct Port *outputs; /* borrowed */
    size_t output_count;
    Operator *operators; /* owned, like its names */
    size_t operator_count;
    int64_t profiled_runs;
    bool timed; /* whether the operators' times are to be told */
    const char *kind;
    char error[512];
} Reply;

#define NO_REPLY {.threads = -1, .tasks = -1, .init_ns = -1, .first_ns = -1, \
                  .peak_bytes = -1, .share_bytes = -1, .warmup_runs = -1}

/* Note what failed, and at which stage; always false. */
bool fail(Reply *reply, const char *kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Give back what the reply owns. */
void free_reply(Reply *reply);

/* Write the reply as one line; false where it cannot be written. */
bool write_reply(const Reply *reply, FILE *file);

#endif
