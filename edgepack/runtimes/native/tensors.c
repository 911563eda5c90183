#include "tensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct {
    int32_t code;
    const char *name;
    size_t size;
} ELEMENTS[] = {
    {1, "float32", 4}, {2, "int32", 4},   {3, "uint8", 1},   {4, "int64", 8},
    {6, "bool", 1},    {7, "int16", 2},   {8, "complex64", 8}, {9, "int8", 1},
    {10, "float16", 2}, {11, "float64", 8}, {13, "uint64", 8}, {16, "uint32", 4},
    {17, "uint16", 2},
};
enum { ELEMENT_COUNT = sizeof ELEMENTS / sizeof *ELEMENTS };

const char *element_name(int32_t element)
{
    for (size_t place = 0; place < ELEMENT_COUNT; place++)
        if (ELEMENTS[place].code == element) return ELEMENTS[place].name;
    return "unknown";
}

int32_t element_code(const char *name)
{
    for (size_t place = 0; place < ELEMENT_COUNT; place++)
        if (strcmp(ELEMENTS[place].name, name) == 0) return ELEMENTS[place].code;
    return 0;
}

size_t element_size(int32_t element)
{
    for (size_t place = 0; place < ELEMENT_COUNT; place++)
        if (ELEMENTS[place].code == element) return ELEMENTS[place].size;
    return 0;
}

size_t tensor_bytes(const LiteRtTensorType *type)
{
    size_t bytes = element_size(type->element);
    for (unsigned int axis = 0; axis < type->layout.rank; axis++) {
        if (axis >= LITERT_MAX_RANK || type->layout.dimensions[axis] < 0) return 0;
        size_t size = (size_t)type->layout.dimensions[axis];
        if (size != 0 && bytes > SIZE_MAX / size) return 0;
        bytes *= size;
    }
    return bytes;
}

void describe(const LiteRtTensorType *type, char *text, size_t room)
{
    size_t used = (size_t)snprintf(text, room, "%s[", element_name(type->element));
    for (unsigned int axis = 0; axis < type->layout.rank && axis < LITERT_MAX_RANK; axis++)
        if (used < room)
            used += (size_t)snprintf(text + used, room - used, "%s%" PRId32, axis > 0 ? ", " : "",
                                     type->layout.dimensions[axis]);
    if (used < room) (void)snprintf(text + used, room - used, "]");
}

bool same_layout(const LiteRtLayout *one, const LiteRtLayout *other)
{
    size_t used = sizeof *one->dimensions * one->rank;
    return one->rank == other->rank && one->rank <= LITERT_MAX_RANK &&
           memcmp(one->dimensions, other->dimensions, used) == 0;
}
