#include "cores.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

bool pin(const Request *request, Reply *reply)
{
    cpu_set_t allowed;
    if (CPU_COUNT(&request->cores) == 0) return true;
    if (sched_setaffinity(0, sizeof request->cores, &request->cores) != 0)
        return fail(reply, "cores", "cannot run on these cores: %s", strerror(errno));
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return fail(reply, "cores", "the cores cannot be told: %s", strerror(errno));
    for (size_t core = 0; core < CPU_SETSIZE; core++) /* the kernel ignores what is not there */
        if (CPU_ISSET(core, &request->cores) && !CPU_ISSET(core, &allowed))
            return fail(reply, "cores", "cannot run on the core %zu: not there, or not allowed",
                        core);
    return true;
}

int count_cores(void)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return CPU_COUNT(&allowed);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}
