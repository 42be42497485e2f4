/* micro_machine.c - prints the limits that other benchmarks are read against. */
#include <stdio.h>
#include <string.h>

#include "machine.h"

int main(void)
{
    const size_t len = (size_t)256 << 20;
    void *buf = machine_alloc(len);
    memset(buf, 1, len);
    double hz = machine_clock_hz();
    double fma = machine_fma_per_second();
    printf("clock            %7.2f GHz\n", hz * 1e-9);
    printf("multiply-adds    %7.1f G/s    %.1f a cycle, %.1f GFLOP/s\n", fma * 1e-9, fma / hz,
           2e-9 * fma);
    double rate = machine_read_bandwidth(buf, len, 5);
    printf("memory stream    %7.2f GB/s   %.1f bytes a cycle\n", rate * 1e-9, rate / hz);
    printf("random load      %7.1f ns\n", machine_random_latency(buf, len) * 1e9);
    machine_free(buf, len);
    return 0;
}
