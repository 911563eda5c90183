#include "warmup.h"

#include <stdlib.h>

static const double STEADY = 0.05; /* as agent.py says, which does the same */
enum { FEWEST = 8 };

static int compare(const void *one, const void *other)
{
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

/* The middle of some times, which are sorted in place. */
static double middle(int64_t *times, size_t count)
{
    qsort(times, count, sizeof *times, compare);
    return (double)times[count / 2];
}

static Settled judge(Samples *samples)
{
    size_t half = samples->count / 2;
    if (samples->count < FEWEST) return UNJUDGED;
    double one = middle(samples->taken_ns, half);
    double other = middle(samples->taken_ns + half, samples->count - half);
    double apart = one > other ? one - other : other - one;
    return apart <= STEADY * other ? SETTLED : UNSETTLED;
}

bool warm_up(Model *model, const Inputs *inputs, const Request *request, Reply *reply)
{
    int64_t runs = 0, end = now_ns() + request->warmup_max_ns;
    do {
        if (!burst(model, inputs, request->warmup_runs, request->warmup_ns, request->max_ns,
                   &reply->samples, reply))
            return false;
        runs += (int64_t)reply->samples.count;
        reply->settled = judge(&reply->samples);
    } while (reply->settled == UNSETTLED && now_ns() < end);
    reply->warmup_runs = runs;
    return true;
}
