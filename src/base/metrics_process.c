/*
 * metrics_process.c - process_* metrics from /proc/self.
 *
 * Reads /proc with plain system calls, not through file.h: a test's file backend has no /proc.
 */
#include "base/metrics_process.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static bool read_text(const char *path, char *ret, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t n = read(fd, ret, cap - 1);
    close(fd);
    if (n <= 0) {
        return false;
    }
    ret[n] = '\0';
    return true;
}

static void put(struct buf *b, const char *name, const char *type, const char *help, double v)
{
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type, name, v);
}

/* Boot time in seconds since the epoch; 0 when unknown. */
static double boot_time(void)
{
    char text[32768];
    const char *at = read_text("/proc/stat", text, sizeof text) ? strstr(text, "\nbtime ") : NULL;
    return at ? strtod(at + 7, NULL) : 0;
}

/* Fields are counted from the state (field 3), behind the parenthesised command name, which may
 * itself hold blanks and parentheses. */
static void put_stat(struct buf *b)
{
    char text[1024];
    char *at = read_text("/proc/self/stat", text, sizeof text) ? strrchr(text, ')') : NULL;
    if (!at) {
        return;
    }
    double field[25] = {0};
    char *save = NULL;
    char *word = strtok_r(at + 1, " ", &save);
    for (size_t i = 3; word && i < ARRAY_LEN(field); i++, word = strtok_r(NULL, " ", &save)) {
        field[i] = i == 3 ? 0 : strtod(word, NULL);
    }
    double hz = (double)sysconf(_SC_CLK_TCK);
    put(b, "process_cpu_seconds_total", "counter", "Total user and system CPU time in seconds.",
        (field[14] + field[15]) / hz);
    put(b, "process_threads", "gauge", "Number of threads.", field[20]);
    double boot = boot_time();
    if (boot > 0) {
        put(b, "process_start_time_seconds", "gauge",
            "Start time of the process since the Unix epoch in seconds.", boot + field[22] / hz);
    }
    put(b, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", field[23]);
    put(b, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
        field[24] * (double)sysconf(_SC_PAGESIZE));
}

static void put_files(struct buf *b)
{
    DIR *d = opendir("/proc/self/fd");
    if (d) {
        double n = -1; /* the directory itself is open meanwhile */
        for (const struct dirent *e = readdir(d); e; e = readdir(d)) {
            n += e->d_name[0] != '.';
        }
        closedir(d);
        put(b, "process_open_fds", "gauge", "Number of open file descriptors.", n);
    }
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
        put(b, "process_max_fds", "gauge", "Maximum number of open file descriptors.",
            (double)lim.rlim_cur);
    }
}

void metrics_render_process(struct buf *b)
{
    put_stat(b);
    put_files(b);
}
