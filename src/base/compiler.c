/* compiler.c - the end of the process after a failed CHECK or ASSERT. */
#include "base/compiler.h"
#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *file, int line, const char *expr)
{
    fprintf(stderr, "%s:%d: check failed: %s\n", file, line, expr);
    abort();
}
