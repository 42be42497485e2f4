/*
 * fault.c - the armed fault point, if any.
 *
 * One point is armed at a time, and it acts once: at the nth time the program passes it. A spec
 * that cannot be understood ends the process, since a crash test with a misspelt point would
 * otherwise pass without having tested anything.
 *
 * THREADS  Any. A plain mutex, not a struct lock: a point may be passed while locks of any rank are
 *          held.
 */
#include "base/fault.h"

#ifdef ELANUS_FAULTS

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum fault_action { FAULT_KILL, FAULT_ERROR, FAULT_NO_SPACE };

static const char *const point_names[] = {
#define FAULT(name, what) name,
#include "base/fault_points.def"
#undef FAULT
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t env_once = PTHREAD_ONCE_INIT;
static const char *armed; /* an element of point_names, or NULL */
static enum fault_action action;
static long left; /* passes until it acts */

static const char *find_point(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(point_names); i++) {
        if (strlen(point_names[i]) == len && memcmp(point_names[i], name, len) == 0) {
            return point_names[i];
        }
    }
    return NULL;
}

NORETURN COLD static void bad_spec(const char *spec)
{
    fprintf(stderr, "fault: cannot understand \"%s\": want name:kill|error|nospace[:nth]\n", spec);
    exit(2);
}

/* Holds mutex. */
static void arm(const char *spec)
{
    static const char *const actions[] = {"kill", "error", "nospace"};
    const char *colon = strchr(spec, ':');
    const char *point = colon ? find_point(spec, (size_t)(colon - spec)) : NULL;
    if (!point) {
        bad_spec(spec);
    }
    const char *what = colon + 1;
    size_t len = strcspn(what, ":");
    size_t k = 0;
    while (k < ARRAY_LEN(actions) &&
           (strlen(actions[k]) != len || memcmp(actions[k], what, len) != 0)) {
        k++;
    }
    if (k == ARRAY_LEN(actions)) {
        bad_spec(spec);
    }
    long nth = 1;
    if (what[len] == ':') {
        char *end;
        nth = strtol(what + len + 1, &end, 10);
        if (nth < 1 || *end) {
            bad_spec(spec);
        }
    }
    armed = point;
    action = (enum fault_action)k;
    left = nth;
}

static void arm_from_env(void)
{
    const char *spec = getenv("ELANUS_FAULT");
    if (spec && *spec) {
        arm(spec);
    }
}

void fault_arm(const char *spec)
{
    /* First, so that the environment does not overwrite what is armed here. */
    pthread_once(&env_once, arm_from_env);
    pthread_mutex_lock(&mutex);
    armed = NULL;
    if (spec) {
        arm(spec);
    }
    pthread_mutex_unlock(&mutex);
}

int fault_hit(const char *name, struct status *st)
{
    bool acts = false;
    enum fault_action what = FAULT_KILL;
    pthread_once(&env_once, arm_from_env);
    CHECK(find_point(name, strlen(name)) != NULL);
    pthread_mutex_lock(&mutex);
    if (armed && strcmp(armed, name) == 0 && --left == 0) {
        acts = true;
        what = action;
        armed = NULL;
    }
    pthread_mutex_unlock(&mutex);
    if (!acts) {
        return 0;
    }
    fprintf(stderr, "fault: %s acts\n", name); /* a test must know that its point was reached */
    switch (what) {
    case FAULT_KILL:
        kill(getpid(), SIGKILL);
        for (;;) {
            pause(); /* the signal may reach another thread first */
        }
    case FAULT_ERROR:
        return st_fail(st, ST_IO, "fault point %s: made to fail", name);
    case FAULT_NO_SPACE:
        return st_fail(st, ST_NO_SPACE, "fault point %s: made to run out of space", name);
    }
    return 0;
}

#endif
