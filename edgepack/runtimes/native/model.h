/* One model that is ready to run on the CPU, its inputs and outputs in its first subgraph's order.
 *
 * That is also the order in which a compiled model takes buffers; a signature may list them in
 * another one, so nothing here is looked up in it.
 */
#ifndef EDGEPACK_MODEL_H
#define EDGEPACK_MODEL_H

#include "reply.h"
#include "request.h"
#include "tensors.h"

typedef struct Port {
    LiteRtTensor tensor;
    LiteRtTensorType type;
    size_t bytes;
    LiteRtTensorBuffer buffer;
    bool borrowed; /* the buffer is that of an input or an earlier output: one tensor, one buffer */
    int unwritten; /* how many runs left the buffer as it was */
} Port;

typedef struct {
    const LiteRt *lite;
    LiteRtEnvironment environment;
    LiteRtModel source;
    LiteRtOptions options;
    LiteRtCompiledModel compiled;
    LiteRtSubgraph subgraph;
    size_t signature;
    size_t input_count, output_count;
    Port *inputs, *outputs;
    LiteRtTensorBuffer *input_buffers, *output_buffers; /* as a call wants them: an array */
} Model;

/* Each returns false, with the reply's error, where it fails. `model_close` takes any state. */
bool model_open(Model *model, const LiteRt *lite, const Request *request, Reply *reply);
bool model_write(Model *model, const Port *port, const void *sample, Reply *reply);
bool model_run(Model *model, Reply *reply);
bool model_read(Model *model, const Port *port, void *sample, Reply *reply);

/* Whether the outputs still have the shapes that their buffers were made for. */
bool model_kept_shapes(Model *model, Reply *reply);

/* Forget all state: the C API can reset no variables, so the model is compiled anew. */
bool model_renew(Model *model, const Request *request, Reply *reply);

/* Compile the model once more, for a profiler to watch it from here on; that slows it down. */
bool model_watch(Model *model, const Request *request, LiteRtProfiler *profiler, Reply *reply);

void model_close(Model *model);

#endif
