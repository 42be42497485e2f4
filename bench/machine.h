/* machine.h - limits of one core of this machine, measured: clock, memory stream, multiply-adds. */
#pragma once
#include <stddef.h>

double machine_now(void); /* seconds of processor time of this thread */
/* Memory on 2 MiB pages where the system grants them; exits when there is none. */
void *machine_alloc(size_t len);
void machine_free(void *p, size_t len);
/* Core cycles a second, from a chain of dependent additions; best of several. */
double machine_clock_hz(void);
/* Bytes a second one core reads from a buffer larger than the caches; the best of several access
 * patterns (with and without software prefetch, one stream and several) and rounds. */
double machine_read_bandwidth(const void *buf, size_t len, int rounds);
/* Single precision multiply-adds a second from registers, two flops each. */
double machine_fma_per_second(void);
/* Seconds of one dependent load from a random line of the buffer. */
double machine_random_latency(void *buf, size_t len);
