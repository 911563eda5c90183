/* What the runner is asked: `name=value` arguments, each at most once except `input`.
 *
 *   library=PATH         libLiteRt.so
 *   probe=1              only load the library
 *   model=PATH           the .tflite file
 *   input=DTYPE:2,3      dtype and shape of a sample, in the order of the first subgraph's inputs
 *   inputs=PATH          the samples: all of the first input, then all of the second, …, raw
 *   outputs=PATH         where outputs go: those of the first sample, then of the second, …, raw
 *   samples=N            how many samples there are
 *   cores=N,N            the cores to run on; else the system chooses
 *   threads=N            0: one a core
 *   stateful=1           the model keeps state: prepare it anew for each sample's outputs
 *   predict=1            each sample once, no burst; else a burst comes first, of
 *   warmup_runs=N warmup_seconds=X warmup_max_seconds=X runs=N min_seconds=X max_seconds=X
 *   per_op=1             after a burst, the times of single operators
 */
#ifndef EDGEPACK_REQUEST_H
#define EDGEPACK_REQUEST_H

#include <sched.h>

#include "reply.h"

typedef struct {
    const char *library, *model, *inputs, *outputs;
    LiteRtTensorType *given; /* owned */
    size_t given_count;
    int64_t samples, threads, warmup_runs, runs;
    int64_t probe, predict, stateful, per_op;
    int64_t warmup_ns, warmup_max_ns, min_ns, max_ns;
    cpu_set_t cores; /* none where it has not been asked for any */
} Request;

/* Fill a request; false, with the reply's error, for what it cannot mean. */
bool read_request(Request *request, int count, char **arguments, Reply *reply);

#endif
