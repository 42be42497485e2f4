/*
 * fault.h - named points at which a test makes a durable step fail or the process die.
 *
 * In builds with -Dfaults=true, the environment variable ELANUS_FAULT=name:action[:nth] arms one:
 * action is `kill` (SIGKILL to itself), `error` (the call returns ST_IO) or `nospace`. Without the
 * build option FAULT_POINT() is the constant 0. Names are listed in fault_points.def with the step
 * they sit before, and tests iterate over that list.
 */
#pragma once
#include "base/compiler.h"
#include "base/status.h"

#ifdef ELANUS_FAULTS
/* 0, or a status code after st was filled. */
int fault_hit(const char *name, struct status *st);
void fault_arm(const char *spec); /* NULL disarms; used by unit tests */
#define FAULT_POINT(name, st) fault_hit(name, st)
#else
#define FAULT_POINT(name, st) ((void)(st), 0)
#endif
