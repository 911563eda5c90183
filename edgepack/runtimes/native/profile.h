/* Which operators ran, by whom, and how long each took. */
#ifndef EDGEPACK_PROFILE_H
#define EDGEPACK_PROFILE_H

#include "measure.h"

/* Watch some more inferences, once nothing else is to be measured: one to see whether a delegate
 * took operators, several where the request wants their times. What cannot be found out is left out
 * of the reply: it is no failure of the measurement.
 */
void profile(Model *model, const Inputs *inputs, const Request *request, Reply *reply);

#endif
