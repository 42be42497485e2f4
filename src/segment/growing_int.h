/* growing_int.h - memory of a growing segment, for growing_append.c. Thread: the writer. */
#pragma once
#include "segment/seg_int.h"

/* Chunks for nrows rows in all; false without memory. */
bool seg__growing_reserve(struct segment *seg, uint32_t nrows);
/* n bytes that stay where they are until the segment ends; NULL without memory. */
uint8_t *seg__growing_bytes(struct segment *seg, size_t n);
