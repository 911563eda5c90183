#include "model.h"

#include <stdlib.h>
#include <string.h>

#define TRY(kind, call)                                                                           \
    do {                                                                                          \
        int status_ = model->lite->call;                                                          \
        if (status_ != 0)                                                                         \
            return fail(reply, kind, "%.*s: %s (%d)", (int)strcspn(#call, "("), #call,            \
                        litert_status(status_), status_);                                         \
    } while (0)

/* One more option, a line of text under a name, as LiteRT's own setters write it. */
static bool add_option(Model *model, LiteRtOptions options, const char *name, const char *line,
                       Reply *reply)
{
    LiteRtOpaqueOptions opaque = NULL;
    char *text = strdup(line);
    if (text == NULL) return fail(reply, "load", "out of memory");
    int status = model->lite->CreateOpaqueOptions(name, text, free, &opaque);
    if (status != 0) {
        free(text);
        return fail(reply, "load", "CreateOpaqueOptions: %s (%d)", litert_status(status), status);
    }
    TRY("load", AddOpaqueOptions(options, opaque)); /* owns it from here on */
    return true;
}

static bool make_options(Model *model, LiteRtOptions *options, Reply *reply)
{
    char line[32];
    (void)snprintf(line, sizeof line, "num_threads = %d\n", reply->threads);
    TRY("load", CreateOptions(options));
    TRY("load", SetOptionsHardwareAccelerators(*options, LITERT_CPU));
    return add_option(model, *options, "xnnpack", line, reply);
}

/* Inference goes by signature: the one of the first subgraph, which is what edgepack measures. */
static bool choose_signature(Model *model, Reply *reply)
{
    size_t count = 0;
    TRY("load", GetModelSubgraph(model->source, 0, &model->subgraph));
    TRY("load", GetNumModelSignatures(model->source, &count));
    for (model->signature = 0; model->signature < count; model->signature++) {
        LiteRtSignature signature = NULL;
        LiteRtSubgraph subgraph = NULL;
        TRY("load", GetModelSignature(model->source, model->signature, &signature));
        TRY("load", GetSignatureSubgraph(signature, &subgraph));
        if (subgraph == model->subgraph) return true;
    }
    return fail(reply, "load", "none of the %zu signatures is the first subgraph's", count);
}

static bool make_ports(Model *model, Reply *reply)
{
    TRY("load", GetNumSubgraphInputs(model->subgraph, &model->input_count));
    TRY("load", GetNumSubgraphOutputs(model->subgraph, &model->output_count));
    size_t inputs = model->input_count + 1, outputs = model->output_count + 1; /* never none */
    model->inputs = calloc(inputs, sizeof *model->inputs);
    model->outputs = calloc(outputs, sizeof *model->outputs);
    model->input_buffers = calloc(inputs, sizeof(LiteRtTensorBuffer));
    model->output_buffers = calloc(outputs, sizeof(LiteRtTensorBuffer));
    if (model->inputs == NULL || model->outputs == NULL || model->input_buffers == NULL ||
        model->output_buffers == NULL)
        return fail(reply, "load", "out of memory");
    for (size_t place = 0; place < model->input_count; place++) {
        Port *port = &model->inputs[place];
        TRY("load", GetSubgraphInput(model->subgraph, place, &port->tensor));
        TRY("load", GetRankedTensorType(port->tensor, &port->type));
    }
    for (size_t place = 0; place < model->output_count; place++) {
        Port *port = &model->outputs[place];
        TRY("load", GetSubgraphOutput(model->subgraph, place, &port->tensor));
        TRY("load", GetRankedTensorType(port->tensor, &port->type));
    }
    return true;
}

/* Whether an input that was declared with open dimensions can have the shape that samples have. */
static bool can_be(const LiteRtLayout *declared, const LiteRtLayout *given)
{
    bool fits = declared->rank == given->rank;
    for (unsigned int axis = 0; fits && axis < given->rank; axis++)
        fits = declared->dimensions[axis] < 0 ||
               declared->dimensions[axis] == given->dimensions[axis];
    return fits;
}

/* Give open dimensions the size that the samples have; all else must be as the model wants it. */
static bool fit_inputs(Model *model, const Request *request, Reply *reply)
{
    if (request->given_count != model->input_count)
        return fail(reply, "inputs", "the model has %zu inputs, found %zu", model->input_count,
                    request->given_count);
    for (size_t place = 0; place < model->input_count; place++) {
        LiteRtTensorType declared, *type = &model->inputs[place].type;
        const LiteRtTensorType *given = &request->given[place];
        TRY("load", GetRankedTensorType(model->inputs[place].tensor, &declared));
        TRY("load", GetCompiledModelInputTensorLayout(model->compiled, model->signature, place,
                                                      &type->layout));
        if (can_be(&declared.layout, &given->layout) &&
            !same_layout(&type->layout, &given->layout)) {
            TRY("inputs", CompiledModelResizeInputTensor(model->compiled, model->signature, place,
                                                         given->layout.dimensions,
                                                         given->layout.rank));
            type->layout = given->layout;
        }
        if (type->element != given->element || !same_layout(&type->layout, &given->layout)) {
            char wanted[128], found[128];
            describe(type, wanted, sizeof wanted);
            describe(given, found, sizeof found);
            return fail(reply, "inputs", "input %zu wants %s, found %s", place, wanted, found);
        }
    }
    return true;
}

/* The outputs' shapes as the runtime has them now; owned by the caller, NULL where it fails. */
static LiteRtLayout *read_layouts(Model *model, bool allocate, Reply *reply)
{
    LiteRtLayout *layouts = calloc(model->output_count + 1, sizeof *layouts);
    if (layouts == NULL) {
        (void)fail(reply, "allocate", "out of memory");
        return NULL;
    }
    int status = model->lite->GetCompiledModelOutputTensorLayouts(
        model->compiled, model->signature, model->output_count, layouts, allocate);
    if (status == 0) return layouts;
    (void)fail(reply, "allocate", "GetCompiledModelOutputTensorLayouts: %s (%d)",
               litert_status(status), status);
    free(layouts);
    return NULL;
}

static bool compile(Model *model, const Request *request, LiteRtOptions options, Reply *reply)
{
    TRY("load", CreateCompiledModel(model->environment, model->source, options, &model->compiled));
    if (!fit_inputs(model, request, reply)) return false;
    LiteRtLayout *layouts = read_layouts(model, true, reply);
    if (layouts == NULL) return false;
    for (size_t place = 0; place < model->output_count; place++)
        model->outputs[place].type.layout = layouts[place];
    free(layouts);
    return true;
}

bool model_kept_shapes(Model *model, Reply *reply)
{
    bool kept = true;
    LiteRtLayout *layouts = read_layouts(model, false, reply);
    if (layouts == NULL) return false;
    for (size_t place = 0; kept && place < model->output_count; place++)
        if (!same_layout(&layouts[place], &model->outputs[place].type.layout))
            kept = fail(reply, "outputs", "the shape of output %zu depends on the inputs", place);
    free(layouts);
    return kept;
}

static bool make_buffer(Model *model, Port *port, LiteRtRequirements needed, Reply *reply)
{
    size_t packed = 0;
    char text[128];
    describe(&port->type, text, sizeof text);
    port->bytes = tensor_bytes(&port->type);
    if (port->bytes == 0)
        return fail(reply, "allocate", "an input or output is %s, which takes no buffer", text);
    if (port->borrowed) return true;
    TRY("allocate", CreateManagedTensorBufferFromRequirements(model->environment, &port->type,
                                                              needed, &port->buffer));
    TRY("allocate", GetTensorBufferPackedSize(port->buffer, &packed));
    if (packed != port->bytes)
        return fail(reply, "allocate", "a buffer for %s has %zu bytes", text, packed);
    return true;
}

/* Let an output that is an input too, or an earlier output, share its buffer.
 *
 * LiteRT binds a tensor to the buffer that comes last, and leaves the others as they were.
 */
static void borrow(Port *output, const Port *ports, size_t count)
{
    for (size_t place = 0; place < count && !output->borrowed; place++)
        if (ports[place].tensor == output->tensor) {
            output->buffer = ports[place].buffer;
            output->borrowed = true;
        }
}

static bool make_buffers(Model *model, Reply *reply)
{
    LiteRtRequirements needed = NULL;
    for (size_t place = 0; place < model->input_count; place++) {
        Port *port = &model->inputs[place];
        TRY("allocate", GetCompiledModelInputBufferRequirements(model->compiled, model->signature,
                                                                place, &needed));
        if (!make_buffer(model, port, needed, reply)) return false;
        model->input_buffers[place] = port->buffer;
    }
    for (size_t place = 0; place < model->output_count; place++) {
        Port *port = &model->outputs[place];
        borrow(port, model->inputs, model->input_count);
        borrow(port, model->outputs, place);
        TRY("allocate", GetCompiledModelOutputBufferRequirements(model->compiled, model->signature,
                                                                 place, &needed));
        if (!make_buffer(model, port, needed, reply)) return false;
        model->output_buffers[place] = port->buffer;
    }
    return true;
}

bool model_open(Model *model, const LiteRt *lite, const Request *request, Reply *reply)
{
    model->lite = lite;
    TRY("load", CreateModelFromFile(model->environment, request->model, &model->source));
    return choose_signature(model, reply) && make_ports(model, reply) &&
           make_options(model, &model->options, reply) &&
           compile(model, request, model->options, reply) && make_buffers(model, reply);
}

bool model_renew(Model *model, const Request *request, Reply *reply)
{
    model->lite->DestroyCompiledModel(model->compiled);
    model->compiled = NULL;
    return compile(model, request, model->options, reply); /* the buffers stay: plain memory */
}

bool model_write(Model *model, const Port *port, const void *sample, Reply *reply)
{
    void *memory = NULL;
    TRY("invoke", LockTensorBuffer(port->buffer, &memory, LITERT_WRITE));
    memcpy(memory, sample, port->bytes);
    TRY("invoke", UnlockTensorBuffer(port->buffer));
    return true;
}

bool model_run(Model *model, Reply *reply)
{
    TRY("invoke", RunCompiledModel(model->compiled, model->signature, model->input_count,
                                   model->input_buffers, model->output_count,
                                   model->output_buffers));
    return true;
}

bool model_read(Model *model, const Port *port, void *sample, Reply *reply)
{
    void *memory = NULL;
    TRY("invoke", LockTensorBuffer(port->buffer, &memory, LITERT_READ));
    memcpy(sample, memory, port->bytes);
    TRY("invoke", UnlockTensorBuffer(port->buffer));
    return true;
}

bool model_watch(Model *model, const Request *request, LiteRtProfiler *profiler, Reply *reply)
{
    const LiteRt *lite = model->lite;
    lite->DestroyCompiledModel(model->compiled);
    lite->DestroyOptions(model->options);
    model->compiled = NULL;
    model->options = NULL;
    if (!make_options(model, &model->options, reply) ||
        !add_option(model, model->options, "runtime_options_string", "enable_profiling = true\n",
                    reply) ||
        !compile(model, request, model->options, reply))
        return false;
    TRY("load", CompiledModelGetProfiler(model->compiled, profiler));
    if (*profiler == NULL) return fail(reply, "load", "LiteRT has no profiler");
    TRY("load", StartProfiler(*profiler));
    return true;
}

void model_close(Model *model)
{
    const LiteRt *lite = model->lite;
    if (lite == NULL) return;
    for (size_t place = 0; model->inputs != NULL && place < model->input_count; place++)
        if (model->inputs[place].buffer != NULL)
            lite->DestroyTensorBuffer(model->inputs[place].buffer);
    for (size_t place = 0; model->outputs != NULL && place < model->output_count; place++)
        if (model->outputs[place].buffer != NULL && !model->outputs[place].borrowed)
            lite->DestroyTensorBuffer(model->outputs[place].buffer);
    if (model->compiled != NULL) lite->DestroyCompiledModel(model->compiled);
    if (model->options != NULL) lite->DestroyOptions(model->options);
    if (model->source != NULL) lite->DestroyModel(model->source);
    free(model->inputs);
    free(model->outputs);
    free(model->input_buffers);
    free(model->output_buffers);
}
