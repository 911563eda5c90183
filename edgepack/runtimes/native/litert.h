/* The part of LiteRT's C API (version 2.3) that the runner calls, found in the library at run time.
 *
 * The wheels carry the library without its headers, so what is needed of them is declared here.
 * Every call but a Destroy returns a status, 0 where it succeeded.
 */
#ifndef EDGEPACK_LITERT_H
#define EDGEPACK_LITERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct LiteRtEnvironmentT *LiteRtEnvironment;
typedef struct LiteRtModelT *LiteRtModel;
typedef struct LiteRtSignatureT *LiteRtSignature;
typedef struct LiteRtSubgraphT *LiteRtSubgraph;
typedef struct LiteRtTensorT *LiteRtTensor;
typedef struct LiteRtOptionsT *LiteRtOptions;
typedef struct LiteRtOpaqueOptionsT *LiteRtOpaqueOptions;
typedef struct LiteRtCompiledModelT *LiteRtCompiledModel;
typedef struct LiteRtProfilerT *LiteRtProfiler;
typedef struct LiteRtRequirementsT *LiteRtRequirements;
typedef struct LiteRtTensorBufferT *LiteRtTensorBuffer;

enum { LITERT_MAX_RANK = 8, LITERT_CPU = 1, LITERT_READ = 0, LITERT_WRITE = 1 };

/* A dimension below 0 is open. */
typedef struct {
    unsigned int rank : 7;
    unsigned int has_strides : 1;
    int32_t dimensions[LITERT_MAX_RANK];
    uint32_t strides[LITERT_MAX_RANK];
} LiteRtLayout;

typedef struct {
    int32_t element;
    LiteRtLayout layout;
} LiteRtTensorType;

_Static_assert(sizeof(LiteRtTensorType) == 72, "the layout that LiteRT 2.3 asserts of itself");

/* What the profiler saw: times in whole microseconds; `type` is a set of the bits below. */
typedef struct {
    const char *tag; /* the profiler's, until it is reset */
    int32_t type;
    uint64_t start_us, elapsed_us;
    int64_t memory[6];
    uint64_t index, subgraph;
    int32_t source;
} LiteRtEvent;

_Static_assert(sizeof(LiteRtEvent) == 104, "as LiteRT 2.3 lays it out on 64-bit machines");
enum { LITERT_OPERATOR = 1 << 1, LITERT_DELEGATED_OPERATOR = 1 << 3 };

/* X(result, name, arguments); a layout or an index of inputs and outputs is the subgraph's. */
#define LITERT_CALLS(X)                                                                           \
    X(int, CreateEnvironment, (int, const void *, LiteRtEnvironment *))                           \
    X(void, DestroyEnvironment, (LiteRtEnvironment))                                              \
    X(int, CreateModelFromFile, (LiteRtEnvironment, const char *, LiteRtModel *))                 \
    X(void, DestroyModel, (LiteRtModel))                                                          \
    X(int, GetNumModelSignatures, (LiteRtModel, size_t *))                                        \
    X(int, GetModelSignature, (LiteRtModel, size_t, LiteRtSignature *))                           \
    X(int, GetSignatureSubgraph, (LiteRtSignature, LiteRtSubgraph *))                             \
    X(int, GetModelSubgraph, (LiteRtModel, size_t, LiteRtSubgraph *))                             \
    X(int, GetNumSubgraphInputs, (LiteRtSubgraph, size_t *))                                      \
    X(int, GetNumSubgraphOutputs, (LiteRtSubgraph, size_t *))                                     \
    X(int, GetSubgraphInput, (LiteRtSubgraph, size_t, LiteRtTensor *))                            \
    X(int, GetSubgraphOutput, (LiteRtSubgraph, size_t, LiteRtTensor *))                           \
    X(int, GetRankedTensorType, (LiteRtTensor, LiteRtTensorType *))                               \
    X(int, CreateOptions, (LiteRtOptions *))                                                      \
    X(void, DestroyOptions, (LiteRtOptions))                                                      \
    X(int, SetOptionsHardwareAccelerators, (LiteRtOptions, int))                                  \
    X(int, CreateOpaqueOptions,                                                                   \
      (const char *, void *, void (*)(void *), LiteRtOpaqueOptions *))                            \
    X(int, AddOpaqueOptions, (LiteRtOptions, LiteRtOpaqueOptions))                                \
    X(int, CreateCompiledModel,                                                                   \
      (LiteRtEnvironment, LiteRtModel, LiteRtOptions, LiteRtCompiledModel *))                     \
    X(void, DestroyCompiledModel, (LiteRtCompiledModel))                                          \
    X(int, CompiledModelResizeInputTensor,                                                        \
      (LiteRtCompiledModel, size_t, size_t, const int *, size_t))                                 \
    X(int, CompiledModelGetProfiler, (LiteRtCompiledModel, LiteRtProfiler *))                     \
    X(int, StartProfiler, (LiteRtProfiler))                                                       \
    X(int, ResetProfiler, (LiteRtProfiler))                                                       \
    X(int, GetNumProfilerEvents, (LiteRtProfiler, int *))                                         \
    X(int, GetProfilerEvents, (LiteRtProfiler, int, LiteRtEvent *))                               \
    X(int, GetCompiledModelInputTensorLayout,                                                     \
      (LiteRtCompiledModel, size_t, size_t, LiteRtLayout *))                                      \
    X(int, GetCompiledModelOutputTensorLayouts,                                                   \
      (LiteRtCompiledModel, size_t, size_t, LiteRtLayout *, bool))                                \
    X(int, GetCompiledModelInputBufferRequirements,                                               \
      (LiteRtCompiledModel, size_t, size_t, LiteRtRequirements *))                                \
    X(int, GetCompiledModelOutputBufferRequirements,                                              \
      (LiteRtCompiledModel, size_t, size_t, LiteRtRequirements *))                                \
    X(int, CreateManagedTensorBufferFromRequirements,                                             \
      (LiteRtEnvironment, const LiteRtTensorType *, LiteRtRequirements, LiteRtTensorBuffer *))    \
    X(void, DestroyTensorBuffer, (LiteRtTensorBuffer))                                            \
    X(int, GetTensorBufferPackedSize, (LiteRtTensorBuffer, size_t *))                             \
    X(int, LockTensorBuffer, (LiteRtTensorBuffer, void **, int))                                  \
    X(int, UnlockTensorBuffer, (LiteRtTensorBuffer))                                              \
    X(int, RunCompiledModel,                                                                      \
      (LiteRtCompiledModel, size_t, size_t, LiteRtTensorBuffer *, size_t, LiteRtTensorBuffer *))

#define LITERT_FIELD(result, name, arguments) result(*name) arguments;
typedef struct {
    void *library;
    LITERT_CALLS(LITERT_FIELD)
} LiteRt;
#undef LITERT_FIELD

/* Load the library; NULL, or why it cannot be (static text, or dlerror's). */
const char *litert_open(LiteRt *lite, const char *path);

/* A status in words. */
const char *litert_status(int status);

#endif
