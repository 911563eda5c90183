/* What tensors are: their elements, sizes and shapes. */
#ifndef EDGEPACK_TENSORS_H
#define EDGEPACK_TENSORS_H

#include "litert.h"

/* numpy's name of an element type, its code by that name (0: none), its size (0: none here). */
const char *element_name(int32_t element);
int32_t element_code(const char *name);
size_t element_size(int32_t element);

/* Bytes of a tensor; 0 where they cannot be told or do not fit. */
size_t tensor_bytes(const LiteRtTensorType *type);

/* `int8[1, 32, 32, 3]`, cut to the room. */
void describe(const LiteRtTensorType *type, char *text, size_t room);

bool same_layout(const LiteRtLayout *one, const LiteRtLayout *other);

#endif
