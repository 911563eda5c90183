#include "measure.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail on Linux */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t memory_bytes(const char *name)
{
    char line[256];
    long long kib = -1;
    FILE *file = fopen("/proc/self/status", "re");
    if (file == NULL) return -1;
    while (kib < 0 && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtoll(line + strlen(name) + 1, NULL, 10);
    (void)fclose(file);
    return kib < 0 ? -1 : kib * 1024;
}

bool forget_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "we");
    if (file == NULL) return false;
    bool written = fputs("5", file) >= 0;
    return fclose(file) == 0 && written;
}

int count_tasks(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/task");
    if (folder == NULL) return -1;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (entry->d_name[0] != '.') count++;
    (void)closedir(folder);
    return count;
}

bool read_inputs(Inputs *inputs, const Request *request, Reply *reply)
{
    size_t wanted = 0, count = (size_t)request->samples;
    for (size_t place = 0; place < request->given_count; place++) {
        size_t bytes = tensor_bytes(&request->given[place]);
        if (bytes == 0 || bytes > (SIZE_MAX / 2 - wanted) / count)
            return fail(reply, "inputs", "input %zu is too large", place);
        wanted += bytes * count;
    }
    FILE *file = fopen(request->inputs, "rbe");
    if (file == NULL) return fail(reply, "inputs", "no samples: %s", strerror(errno));
    inputs->count = count;
    inputs->content = malloc(wanted + 1); /* one more, to see that the file ends */
    size_t found = inputs->content != NULL ? fread(inputs->content, 1, wanted + 1, file) : 0;
    (void)fclose(file);
    if (inputs->content == NULL) return fail(reply, "inputs", "out of memory");
    if (found != wanted)
        return fail(reply, "inputs", "the samples have %s than %zu bytes",
                    found > wanted ? "more" : "fewer", wanted);
    return true;
}

bool feed(Model *model, const Inputs *inputs, size_t sample, Reply *reply)
{
    const unsigned char *stack = inputs->content;
    for (size_t place = 0; place < model->input_count; place++) {
        size_t bytes = model->inputs[place].bytes;
        if (!model_write(model, &model->inputs[place], stack + sample * bytes, reply)) return false;
        stack += inputs->count * bytes;
    }
    return true;
}

static bool keep(Samples *samples, int64_t nanoseconds, Reply *reply)
{
    if (samples->count == samples->room) {
        size_t room = samples->room > 0 ? 2 * samples->room : 4096;
        int64_t *more = realloc(samples->taken_ns, room * sizeof *more);
        if (more == NULL) return fail(reply, "invoke", "out of memory after %zu", samples->count);
        samples->taken_ns = more;
        samples->room = room;
    }
    samples->taken_ns[samples->count++] = nanoseconds;
    return true;
}

bool burst(Model *model, const Inputs *inputs, int64_t runs, int64_t least_ns, int64_t most_ns,
           Samples *samples, Reply *reply)
{
    int64_t start = now_ns(), end = start;
    samples->count = 0;
    do {
        if (!feed(model, inputs, samples->count % inputs->count, reply)) return false;
        int64_t begin = now_ns();
        if (!model_run(model, reply)) return false;
        end = now_ns(); /* only the inference stands between two readings of the clock */
        if (!keep(samples, end - begin, reply)) return false;
    } while (end - start < most_ns &&
             (end - start < least_ns || (int64_t)samples->count < runs));
    return true;
}

/* The outputs of a sample from a fresh state. */
static bool infer(Model *model, const Inputs *inputs, const Request *request, size_t sample,
                  Reply *reply)
{
    if (request->stateful != 0 && !model_renew(model, request, reply)) return false;
    return feed(model, inputs, sample, reply) && model_run(model, reply) &&
           model_kept_shapes(model, reply);
}

/* Fill the outputs with a mark, infer, and count in each port how often the mark was left there. */
static bool infer_over(Model *model, const Inputs *inputs, const Request *request,
                       unsigned char mark, unsigned char *row, Reply *reply)
{
    for (size_t place = 0; place < model->output_count; place++) {
        const Port *port = &model->outputs[place];
        memset(row, mark, port->bytes);
        if (!model_write(model, port, row, reply)) return false;
    }
    if (!infer(model, inputs, request, 0, reply)) return false; /* feeds borrowed ones anew */
    for (size_t place = 0; place < model->output_count; place++) {
        Port *port = &model->outputs[place];
        size_t same = 0;
        if (!model_read(model, port, row, reply)) return false;
        while (same < port->bytes && row[same] == mark) same++;
        if (same == port->bytes) port->unwritten++;
    }
    return true;
}

/* LiteRT 2.3 does not write an output whose shape is known at run time only, and says nothing.
 *
 * Two marks are tried, since an output may well equal one of them.
 */
static bool check_written(Model *model, const Inputs *inputs, const Request *request,
                          unsigned char *row, Reply *reply)
{
    static const unsigned char MARKS[] = {0xa5, 0x5a};
    for (int turn = 0; turn < 2; turn++)
        if (!infer_over(model, inputs, request, MARKS[turn], row, reply)) return false;
    for (size_t place = 0; place < model->output_count; place++)
        if (model->outputs[place].unwritten == 2)
            return fail(reply, "outputs", "LiteRT's C API leaves output %zu unwritten", place);
    return true;
}

static bool predict(Model *model, const Inputs *inputs, const Request *request, FILE *file,
                    unsigned char *row, Reply *reply)
{
    if (!check_written(model, inputs, request, row, reply)) return false;
    for (size_t sample = 0; sample < inputs->count; sample++) {
        if (!infer(model, inputs, request, sample, reply)) return false;
        for (size_t place = 0; place < model->output_count; place++) {
            const Port *port = &model->outputs[place];
            if (!model_read(model, port, row, reply)) return false;
            if (fwrite(row, 1, port->bytes, file) != port->bytes)
                return fail(reply, "outputs", "cannot write: %s", strerror(errno));
        }
    }
    return true;
}

bool write_predictions(Model *model, const Inputs *inputs, const Request *request, Reply *reply)
{
    size_t largest = 1;
    for (size_t place = 0; place < model->output_count; place++)
        if (model->outputs[place].bytes > largest) largest = model->outputs[place].bytes;
    unsigned char *row = malloc(largest);
    if (row == NULL) return fail(reply, "outputs", "out of memory");
    FILE *file = fopen(request->outputs, "wbe");
    if (file == NULL) {
        free(row);
        return fail(reply, "outputs", "cannot write: %s", strerror(errno));
    }
    bool done = predict(model, inputs, request, file, row, reply);
    free(row);
    if (fclose(file) != 0 && done)
        return fail(reply, "outputs", "cannot write: %s", strerror(errno));
    return done;
}
