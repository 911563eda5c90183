/* Runs a .tflite model through libLiteRt.so: each sample once, or a timed burst; see request.h.
 *
 * stdout is one line of JSON, see reply.h; all chatter goes to stderr. A failure is "error" and
 * "kind" beside what was measured before it, with exit code 1; the kind is one of no-runtime,
 * request, cores, inputs, load, allocate, invoke, outputs.
 */
#include <stdlib.h>
#include <unistd.h>

#include "cores.h"
#include "profile.h"
#include "warmup.h"

static bool measure(Model *model, const Inputs *inputs, const Request *request, int64_t before,
                    Reply *reply)
{
    int64_t most = request->max_ns;
    if (!burst(model, inputs, 1, 0, 0, &reply->samples, reply)) return false;
    reply->first_ns = reply->samples.taken_ns[0];
    reply->peak_bytes = memory_bytes("VmHWM"); /* now: raw samples are not the model's memory */
    if (reply->peak_bytes >= 0 && before >= 0)
        reply->share_bytes = reply->peak_bytes > before ? reply->peak_bytes - before : 0;
    if (!warm_up(model, inputs, request, reply)) return false;
    if (!burst(model, inputs, request->runs, request->min_ns, most, &reply->samples, reply))
        return false;
    reply->measured = true;
    return true;
}

static bool run(Model *model, const LiteRt *lite, const Request *request, Inputs *inputs,
                Reply *reply)
{
    if (!read_inputs(inputs, request, reply)) return false;
    reply->threads = request->threads > 0 ? (int)request->threads : count_cores();
    reply->since_load = forget_peak();
    int64_t before = memory_bytes("VmRSS"), start = now_ns();
    if (!model_open(model, lite, request, reply)) return false;
    reply->init_ns = now_ns() - start;
    if (request->predict == 0 && !measure(model, inputs, request, before, reply)) return false;
    reply->tasks = count_tasks();
    if (!write_predictions(model, inputs, request, reply)) return false;
    reply->outputs = model->outputs;
    reply->output_count = model->output_count;
    if (request->predict == 0) profile(model, inputs, request, reply);
    return true;
}

static bool answer(Model *model, LiteRt *lite, Request *request, Inputs *inputs, Reply *reply)
{
    if (!pin(request, reply)) return false; /* before anything can start a thread */
    const char *reason = litert_open(lite, request->library);
    if (reason != NULL) return fail(reply, "no-runtime", "%s", reason);
    int status = lite->CreateEnvironment(0, NULL, &model->environment);
    if (status != 0) return fail(reply, "no-runtime", "LiteRT: %s", litert_status(status));
    return request->probe != 0 || run(model, lite, request, inputs, reply);
}

int main(int count, char **arguments)
{
    static LiteRt lite;
    static Request request;
    static Model model;
    static Inputs inputs;
    static Reply reply = NO_REPLY;
    int out = dup(STDOUT_FILENO); /* what the library prints must not mix with the reply */
    FILE *file = out >= 0 ? fdopen(out, "w") : NULL;
    if (file == NULL || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) return 2;
    bool done = read_request(&request, count, arguments, &reply) &&
                answer(&model, &lite, &request, &inputs, &reply);
    if (!write_reply(&reply, file)) return 2;
    model_close(&model);
    if (model.environment != NULL) lite.DestroyEnvironment(model.environment);
    free(inputs.content);
    free(request.given);
    free_reply(&reply);
    return done && fclose(file) == 0 ? 0 : 1;
}
