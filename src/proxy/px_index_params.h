/* px_index_params.h - inside the room: what a client asks of an index, checked and completed. */
#pragma once
#include "proxy/px_int.h"

struct px_index_params {
    struct px_kv_list flat; /* index_type, metric_type, build parameters with their defaults */
    struct px_kv_list user; /* as sent, with type and metric filled in: what describe shows */
};

/* Everything in ar. Fails: ERR_PARAMETER_INVALID and _MISSING with the API's words. */
int px_index_params_read(const struct field *f, size_t n, px_kv_pb *const *kv, struct arena *ar,
                         struct px_index_params *ret, struct status *st);
/* What of a search's parameters (a JSON object) an index of this type looks at, as keys and texts
 * in ar; the rest is ignored. ERR_PARAMETER_INVALID names key and range. */
struct json_value;
int px_index_search_params(const char *type, const struct json_value *obj, struct arena *ar,
                           struct px_kv_list *ret, struct status *st);
/* Changes of an index that exists. */
int px_index_check_alter(size_t n, px_kv_pb *const *kv, size_t ndelete, const char *const *keys,
                         struct status *st);
