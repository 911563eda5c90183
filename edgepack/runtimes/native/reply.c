#include "reply.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "model.h"

bool fail(Reply *reply, const char *kind, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    (void)vsnprintf(reply->error, sizeof reply->error, format, values);
    va_end(values);
    reply->kind = kind;
    return false;
}

/* A string in which nothing but printable ASCII is left: names in a model may hold any bytes. */
static void write_text(FILE *file, const char *text)
{
    fputc('"', file);
    for (const char *place = text; *place != '\0'; place++) {
        if (*place == '"' || *place == '\\') fputc('\\', file);
        fputc(*place >= ' ' && *place <= '~' ? *place : '?', file);
    }
    fputc('"', file);
}

static void write_name(FILE *file, bool *first, const char *name)
{
    fputs(*first ? "" : ", ", file);
    *first = false;
    write_text(file, name);
    fputs(": ", file);
}

/* Three decimals of a microsecond are all that a nanosecond clock gives. */
static void write_us(FILE *file, int64_t nanoseconds)
{
    fprintf(file, "%" PRId64 ".%03d", nanoseconds / 1000, (int)(nanoseconds % 1000));
}

static void write_samples(FILE *file, const Samples *samples)
{
    fputc('[', file);
    for (size_t place = 0; place < samples->count; place++) {
        if (place > 0) fputs(", ", file);
        write_us(file, samples->taken_ns[place]);
    }
    fputc(']', file);
}

static void write_outputs(FILE *file, const Reply *reply)
{
    fputc('[', file);
    for (size_t place = 0; place < reply->output_count; place++) {
        const LiteRtTensorType *type = &reply->outputs[place].type;
        fputs(place > 0 ? ", {\"dtype\": " : "{\"dtype\": ", file);
        write_text(file, element_name(type->element));
        fputs(", \"shape\": [", file);
        for (unsigned int axis = 0; axis < type->layout.rank; axis++)
            fprintf(file, "%s%" PRId32, axis > 0 ? ", " : "", type->layout.dimensions[axis]);
        fputs("]}", file);
    }
    fputc(']', file);
}

static void write_bytes_or_null(FILE *file, int64_t bytes)
{
    if (bytes < 0)
        fputs("null", file);
    else
        fprintf(file, "%" PRId64, bytes);
}

static void write_memory(FILE *file, const Reply *reply)
{
    fputs("{\"peak_rss_bytes\": ", file);
    write_bytes_or_null(file, reply->peak_bytes);
    fputs(", \"model_bytes\": ", file);
    write_bytes_or_null(file, reply->share_bytes);
    fprintf(file, ", \"since_load\": %s}", reply->since_load ? "true" : "false");
}

static void write_operators(FILE *file, const Reply *reply)
{
    fprintf(file, "{\"runs\": %" PRId64 ", \"operators\": [", reply->profiled_runs);
    for (size_t place = 0; place < reply->operator_count; place++) {
        const Operator *one = &reply->operators[place];
        fputs(place > 0 ? ", {\"name\": " : "{\"name\": ", file);
        write_text(file, one->name);
        fprintf(file, ", \"delegated\": %s, \"us\": %.3f}", one->delegated ? "true" : "false",
                one->us);
    }
    fputs("]}", file);
}

void free_reply(Reply *reply)
{
    for (size_t place = 0; place < reply->operator_count; place++) {
        free(reply->operators[place].name);
        free(reply->operators[place].taken_us);
    }
    free(reply->operators);
    free(reply->samples.taken_ns);
}

bool write_reply(const Reply *reply, FILE *file)
{
    bool first = true;
    fputc('{', file);
    if (reply->delegate != NULL) {
        write_name(file, &first, "delegate");
        write_text(file, reply->delegate);
    }
    if (reply->threads >= 0) {
        write_name(file, &first, "threads");
        fprintf(file, "%d", reply->threads);
    }
    if (reply->tasks >= 0) {
        write_name(file, &first, "tasks");
        fprintf(file, "%d", reply->tasks);
    }
    if (reply->init_ns >= 0) {
        write_name(file, &first, "init_us");
        write_us(file, reply->init_ns);
    }
    if (reply->first_ns >= 0) {
        write_name(file, &first, "first_us");
        write_us(file, reply->first_ns);
        write_name(file, &first, "memory");
        write_memory(file, reply);
    }
    if (reply->warmup_runs >= 0) {
        write_name(file, &first, "warmup_runs");
        fprintf(file, "%" PRId64, reply->warmup_runs);
    }
    if (reply->settled != UNJUDGED) {
        write_name(file, &first, "settled");
        fputs(reply->settled == SETTLED ? "true" : "false", file);
    }
    if (reply->measured) {
        write_name(file, &first, "samples_us");
        write_samples(file, &reply->samples);
    }
    if (reply->outputs != NULL) {
        write_name(file, &first, "outputs");
        write_outputs(file, reply);
    }
    if (reply->timed) {
        write_name(file, &first, "profile");
        write_operators(file, reply);
    }
    if (reply->kind != NULL) {
        write_name(file, &first, "kind");
        write_text(file, reply->kind);
        write_name(file, &first, "error");
        write_text(file, reply->error);
    }
    fputs("}\n", file);
    return fflush(file) == 0 && ferror(file) == 0;
}
