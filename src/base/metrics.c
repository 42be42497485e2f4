/*
 * metrics.c - the register of metrics and its rendering.
 *
 * A family is a name with its kind and help; its metrics differ in labels. Both lists are kept
 * sorted, so the text is the same from scrape to scrape and a family's lines stand together, as the
 * format demands.
 *
 * THREADS  Any. The lists are under one lock; they only grow, and a metric never moves, so updates
 *          need no lock. Values are relaxed atomics: a scrape may see one of two related
 *          counters a moment earlier than the other.
 */
#include "base/metrics.h"
#include "base/alloc.h"
#include "base/lock.h"
#include "base/metrics_process.h"
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#define NBUCKETS 17 /* upper bounds 2^0 ... 2^16 */
#define COLLECTORS_MAX 16

struct measure {
    struct measure *next; /* same family, by labels */
    char *labels;
    enum metric_kind kind;
    _Atomic int64_t value;             /* histogram: number of observations above the last bound */
    _Atomic int64_t buckets[NBUCKETS]; /* histogram: not cumulative */
    _Atomic double sum;
};

struct family {
    struct family *next; /* by name */
    char *name, *help;
    enum metric_kind kind;
    struct measure *metrics;
};

static struct {
    struct lock lock;
    struct family *families;
    struct {
        void (*fn)(void *);
        void *arg;
    } collectors[COLLECTORS_MAX];
    size_t ncollectors;
} reg = {.lock = {PTHREAD_MUTEX_INITIALIZER, RANK_METRICS}};

static struct family *family_get(enum metric_kind kind, const char *name, const char *help)
{
    struct family **at = &reg.families;
    while (*at && strcmp((*at)->name, name) < 0) {
        at = &(*at)->next;
    }
    if (!*at || strcmp((*at)->name, name) != 0) {
        struct family *fam = xalloc(sizeof *fam);
        fam->name = xstrdup(name);
        fam->help = xstrdup(help);
        fam->kind = kind;
        fam->next = *at;
        *at = fam;
    }
    CHECK((*at)->kind == kind);
    return *at;
}

struct measure *metric_get(enum metric_kind kind, const char *name, const char *labels,
                          const char *help)
{
    lock_acquire(&reg.lock);
    struct family *fam = family_get(kind, name, help);
    struct measure **at = &fam->metrics;
    while (*at && strcmp((*at)->labels, labels) < 0) {
        at = &(*at)->next;
    }
    if (!*at || strcmp((*at)->labels, labels) != 0) {
        struct measure *m = xalloc(sizeof *m);
        m->labels = xstrdup(labels);
        m->kind = kind;
        m->next = *at;
        *at = m;
    }
    struct measure *found = *at;
    lock_release(&reg.lock);
    return found;
}

void metric_add(struct measure *m, int64_t v)
{
    ASSERT(m->kind != METRIC_HISTOGRAM);
    atomic_fetch_add_explicit(&m->value, v, memory_order_relaxed);
}

void metric_set(struct measure *m, int64_t v)
{
    ASSERT(m->kind != METRIC_HISTOGRAM);
    atomic_store_explicit(&m->value, v, memory_order_relaxed);
}

void metric_observe(struct measure *m, double v)
{
    ASSERT(m->kind == METRIC_HISTOGRAM);
    if (isnan(v)) {
        return; /* it would stay in the sum for ever */
    }
    size_t k = 0;
    while (k < NBUCKETS && v > (double)(1u << k)) {
        k++;
    }
    atomic_fetch_add_explicit(k < NBUCKETS ? &m->buckets[k] : &m->value, 1, memory_order_relaxed);
    double old = atomic_load_explicit(&m->sum, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&m->sum, &old, old + v, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

int64_t metric_value(const struct measure *m)
{
    int64_t v = atomic_load_explicit(&m->value, memory_order_relaxed);
    if (m->kind == METRIC_HISTOGRAM) {
        for (size_t k = 0; k < NBUCKETS; k++) {
            v += atomic_load_explicit(&m->buckets[k], memory_order_relaxed);
        }
    }
    return v;
}

void metrics_on_collect(void (*fn)(void *), void *arg)
{
    lock_acquire(&reg.lock);
    CHECK(reg.ncollectors < COLLECTORS_MAX);
    reg.collectors[reg.ncollectors].fn = fn;
    reg.collectors[reg.ncollectors].arg = arg;
    reg.ncollectors++;
    lock_release(&reg.lock);
}

static void render_plain(struct buf *b, const struct family *fam, const struct measure *m)
{
    bool bare = m->labels[0] == '\0';
    buf_printf(b, "%s%s%s%s %lld\n", fam->name, bare ? "" : "{", m->labels, bare ? "" : "}",
               (long long)metric_value(m));
}

static void render_histogram(struct buf *b, const struct family *fam, const struct measure *m)
{
    bool bare = m->labels[0] == '\0';
    const char *comma = bare ? "" : ",", *open = bare ? "" : "{", *close = bare ? "" : "}";
    int64_t total = 0;
    for (size_t k = 0; k < NBUCKETS; k++) {
        total += atomic_load_explicit(&m->buckets[k], memory_order_relaxed);
        buf_printf(b, "%s_bucket{%s%sle=\"%u\"} %lld\n", fam->name, m->labels, comma, 1u << k,
                   (long long)total);
    }
    total += atomic_load_explicit(&m->value, memory_order_relaxed);
    buf_printf(b, "%s_bucket{%s%sle=\"+Inf\"} %lld\n", fam->name, m->labels, comma,
               (long long)total);
    buf_printf(b, "%s_sum%s%s%s %.17g\n", fam->name, open, m->labels, close,
               atomic_load_explicit(&m->sum, memory_order_relaxed));
    buf_printf(b, "%s_count%s%s%s %lld\n", fam->name, open, m->labels, close, (long long)total);
}

static void render_help(struct buf *b, const struct family *fam)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    buf_printf(b, "# HELP %s ", fam->name);
    for (const char *s = fam->help; *s; s++) {
        if (*s == '\\') {
            buf_put_str(b, "\\\\");
        } else if (*s == '\n') {
            buf_put_str(b, "\\n");
        } else {
            buf_putc(b, *s);
        }
    }
    buf_printf(b, "\n# TYPE %s %s\n", fam->name, kinds[fam->kind]);
}

/* Collectors run without the lock: they set gauges, and may create them. */
static void run_collectors(void)
{
    for (size_t i = 0;; i++) {
        lock_acquire(&reg.lock);
        bool any = i < reg.ncollectors;
        void (*fn)(void *) = any ? reg.collectors[i].fn : NULL;
        void *arg = any ? reg.collectors[i].arg : NULL;
        lock_release(&reg.lock);
        if (!any) {
            return;
        }
        fn(arg);
    }
}

bool metrics_render(struct buf *b)
{
    run_collectors();
    lock_acquire(&reg.lock);
    for (const struct family *fam = reg.families; fam; fam = fam->next) {
        render_help(b, fam);
        for (const struct measure *m = fam->metrics; m; m = m->next) {
            if (fam->kind == METRIC_HISTOGRAM) {
                render_histogram(b, fam, m);
            } else {
                render_plain(b, fam, m);
            }
        }
    }
    lock_release(&reg.lock);
    metrics_render_process(b);
    return !b->failed;
}
