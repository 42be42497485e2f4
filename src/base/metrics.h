/*
 * metrics.h - counters, gauges and histograms, shown in Prometheus text.
 *
 * A metric is created once (by name and a fixed label text such as `function_name="Search"`), kept
 * for the life of the process, and updated with relaxed atomics: cheap enough for every request.
 */
#pragma once
#include "base/buf.h"
#include "base/compiler.h"

struct measure;
enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

/* Returns the existing one when name and labels are known already. labels may be "". Histograms
 * have buckets of 1, 2, 4 ... 2^16 (unit in the name, usually milliseconds). */
struct measure *metric_get(enum metric_kind kind, const char *name, const char *labels,
                          const char *help);
void metric_add(struct measure *m, int64_t v);
void metric_set(struct measure *m, int64_t v);
void metric_observe(struct measure *m, double v);
int64_t metric_value(const struct measure *m); /* of a histogram: how many observations */
/* Before each rendering, fn(arg) may set gauges. At most 16 of these. */
void metrics_on_collect(void (*fn)(void *), void *arg);
bool metrics_render(struct buf *b);
/* Process figures (resident memory, CPU seconds, open files) are added by the renderer. */
