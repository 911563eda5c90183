/* Time and memory of a model that is ready, and its outputs. */
#ifndef EDGEPACK_MEASURE_H
#define EDGEPACK_MEASURE_H

#include "model.h"

/* All samples: input by input, each one sample after the other. */
typedef struct {
    unsigned char *content; /* owned */
    size_t count;
} Inputs;

int64_t now_ns(void);

/* A line of /proc/self/status such as `VmRSS` in bytes, or -1. */
int64_t memory_bytes(const char *name);

/* Let the peak start anew, so that loading the library does not count; false where it cannot. */
bool forget_peak(void);

/* The threads of this process, or -1. */
int count_tasks(void);

/* Read the samples of a request; each of the next returns false with the reply's error. */
bool read_inputs(Inputs *inputs, const Request *request, Reply *reply);

/* Copy one sample into the inputs. */
bool feed(Model *model, const Inputs *inputs, size_t sample, Reply *reply);

/* Single inferences until `runs` and `least_ns` have been taken, or `most_ns` are over. */
bool burst(Model *model, const Inputs *inputs, int64_t runs, int64_t least_ns, int64_t most_ns,
           Samples *samples, Reply *reply);

/* Each sample once, its outputs to the request's file. */
bool write_predictions(Model *model, const Inputs *inputs, const Request *request, Reply *reply);

#endif
