/* clock.h - time, as a value that tests can set. */
#pragma once
#include "base/compiler.h"

int64_t clock_now_ms(void);  /* wall clock, milliseconds since the epoch */
int64_t clock_mono_us(void); /* monotonic microseconds */
int64_t clock_mono_ms(void);
/* Tests: wall and monotonic time advance only by this call until clock_real(). */
void clock_fake_set_ms(int64_t now_ms);
void clock_real(void);
bool clock_is_fake(void);

/* A deadline is a monotonic microsecond count; DEADLINE_NONE never passes. */
#define DEADLINE_NONE INT64_MAX
static inline int64_t deadline_in_ms(int64_t ms)
{
    int64_t now = clock_mono_us();
    return ms >= (DEADLINE_NONE - now) / 1000 ? DEADLINE_NONE : now + ms * 1000;
}
