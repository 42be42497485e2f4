/* metrics_process.h - the figures every Prometheus client library shows about its process. */
#pragma once
#include "base/buf.h"

/* Figures that the system does not tell are left out. */
void metrics_render_process(struct buf *b);
