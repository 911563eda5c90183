#include "profile.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_OPERATORS = 1 << 16, PROFILED_RUNS = 100 };
static const int64_t PROFILED_NS = 5000000000;

/* The events of one inference; owned by the caller, NULL where there are none. */
static LiteRtEvent *read_events(const LiteRt *lite, LiteRtProfiler profiler, int *count)
{
    if (lite->GetNumProfilerEvents(profiler, count) != 0 || *count < 1 || *count > MOST_OPERATORS)
        return NULL;
    LiteRtEvent *events = calloc((size_t)*count, sizeof *events);
    if (events != NULL && lite->GetProfilerEvents(profiler, *count, events) == 0) return events;
    free(events);
    return NULL;
}

/* The next operator among the events; NULL at their end. */
static const LiteRtEvent *next_operator(const LiteRtEvent *events, int count, int *place)
{
    while (*place < count) {
        const LiteRtEvent *event = &events[(*place)++];
        if ((event->type & (LITERT_OPERATOR | LITERT_DELEGATED_OPERATOR)) != 0 &&
            event->tag != NULL)
            return event;
    }
    return NULL;
}

/* Make the reply's list of operators from the first inference. */
static bool name_operators(const LiteRtEvent *events, int count, Reply *reply)
{
    reply->operators = calloc((size_t)count, sizeof *reply->operators);
    if (reply->operators == NULL) return false;
    int place = 0;
    for (const LiteRtEvent *event; (event = next_operator(events, count, &place)) != NULL;) {
        Operator *one = &reply->operators[reply->operator_count++];
        one->delegated = (event->type & LITERT_DELEGATED_OPERATOR) != 0;
        one->name = strdup(event->tag);
        one->taken_us = calloc(PROFILED_RUNS, sizeof *one->taken_us);
        if (one->name == NULL || one->taken_us == NULL) return false;
    }
    return true;
}

/* Add an inference's times; false where others ran than in the first one. */
static bool add_times(const LiteRtEvent *events, int count, Reply *reply)
{
    int place = 0;
    for (size_t index = 0; index < reply->operator_count; index++) {
        const LiteRtEvent *event = next_operator(events, count, &place);
        if (event == NULL || strcmp(event->tag, reply->operators[index].name) != 0) return false;
        reply->operators[index].taken_us[reply->profiled_runs] = event->elapsed_us;
    }
    return next_operator(events, count, &place) == NULL;
}

/* One inference under the profiler's eyes. */
static bool watch(Model *model, const Inputs *inputs, LiteRtProfiler profiler, Reply *reply,
                  Reply *aside)
{
    int count = 0;
    if (model->lite->ResetProfiler(profiler) != 0 || model->lite->StartProfiler(profiler) != 0 ||
        !feed(model, inputs, (size_t)reply->profiled_runs % inputs->count, aside))
        return false;
    if (!model_run(model, aside)) return false;
    LiteRtEvent *events = read_events(model->lite, profiler, &count);
    if (events == NULL) return false;
    bool same = (reply->operators != NULL || name_operators(events, count, reply)) &&
                add_times(events, count, reply);
    free(events);
    reply->profiled_runs++;
    return same;
}

static int compare(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

/* The mean of the middle half, which is finer than whole microseconds and minds no outlier. */
static double typical(uint64_t *times, size_t count)
{
    double sum = 0;
    size_t edge = count / 4;
    qsort(times, count, sizeof *times, compare);
    for (size_t place = edge; place < count - edge; place++) sum += (double)times[place];
    return sum / (double)(count - 2 * edge);
}

static const char *delegate(const Reply *reply)
{
    for (size_t place = 0; place < reply->operator_count; place++)
        if (reply->operators[place].delegated) return "xnnpack";
    return reply->operator_count > 0 ? "none" : "unknown";
}

void profile(Model *model, const Inputs *inputs, const Request *request, Reply *reply)
{
    Reply aside = *reply;
    LiteRtProfiler profiler = NULL;
    int64_t runs = request->per_op != 0 ? PROFILED_RUNS : 1, end = now_ns() + PROFILED_NS;
    bool same = model_watch(model, request, &profiler, &aside);
    while (same && reply->profiled_runs < runs && (reply->profiled_runs == 0 || now_ns() < end))
        same = watch(model, inputs, profiler, reply, &aside);
    reply->delegate = delegate(reply);
    reply->timed = same && request->per_op != 0;
    for (size_t place = 0; reply->timed && place < reply->operator_count; place++) {
        Operator *one = &reply->operators[place];
        one->us = typical(one->taken_us, (size_t)reply->profiled_runs);
    }
}
