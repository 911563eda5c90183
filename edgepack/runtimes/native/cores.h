/* The cores that this process runs on. */
#ifndef EDGEPACK_CORES_H
#define EDGEPACK_CORES_H

#include "request.h"

/* Run on the request's cores only, as do threads that are started later; false, with the reply's
 * error, where that cannot be.
 */
bool pin(const Request *request, Reply *reply);

/* How many cores this process may run on. */
int count_cores(void);

#endif
