/* The inferences before those that count, until the speed has settled. */
#ifndef EDGEPACK_WARMUP_H
#define EDGEPACK_WARMUP_H

#include "measure.h"

/* Rounds of the request's `warmup_runs` and `warmup_seconds`, until the medians of a round's halves
 * are within 5 % of each other, or `warmup_max_seconds` are over. What is measured later takes the
 * samples' room.
 */
bool warm_up(Model *model, const Inputs *inputs, const Request *request, Reply *reply);

#endif
