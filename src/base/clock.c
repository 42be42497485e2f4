/*
 * clock.c - the system's clocks, or the one a test sets.
 *
 * Under the fake clock both clocks show the same milliseconds, so a deadline made from one can be
 * reached by setting the other. Real and fake monotonic values do not compare: a test switches
 * before it starts what it tests.
 */
#include "base/clock.h"
#include <stdatomic.h>
#include <time.h>

#define FAKE_OFF INT64_MIN

/* Relaxed everywhere: the value stands alone, nothing is published through it. */
static _Atomic int64_t fake_ms = FAKE_OFF;

static int64_t read_us(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_now_ms(void)
{
    int64_t fake = atomic_load_explicit(&fake_ms, memory_order_relaxed);
    return fake == FAKE_OFF ? read_us(CLOCK_REALTIME) / 1000 : fake;
}

int64_t clock_mono_us(void)
{
    int64_t fake = atomic_load_explicit(&fake_ms, memory_order_relaxed);
    return fake == FAKE_OFF ? read_us(CLOCK_MONOTONIC) : fake * 1000;
}

int64_t clock_mono_ms(void)
{
    return clock_mono_us() / 1000;
}

void clock_fake_set_ms(int64_t now_ms)
{
    atomic_store_explicit(&fake_ms, now_ms, memory_order_relaxed);
}

void clock_real(void)
{
    atomic_store_explicit(&fake_ms, FAKE_OFF, memory_order_relaxed);
}

bool clock_is_fake(void)
{
    return atomic_load_explicit(&fake_ms, memory_order_relaxed) != FAKE_OFF;
}
