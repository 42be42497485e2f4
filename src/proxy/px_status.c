/*
 * px_status.c - what went wrong, in the API's numbers.
 *
 * Causes (ST_*) become the API's numbers here; numbers of the API (schema/errors.h) pass through.
 * A number has a legacy twin that older clients still read, tells whether trying again may help,
 * and whether it was the caller's mistake. The message is sent as it is: clients compare words.
 * THREADS  Any.
 */
#include "proxy/px_int.h"

/* Numbers below 100 of the API: they have no name in schema/errors.h, because there numbers below
 * 100 are causes. */
enum {
    API_NOT_READY = 1,
    API_UNAVAILABLE = 2,
    API_MEMORY_LIMIT = 3,
    API_INTERNAL = 5,
    API_RATE_LIMIT = 8,
    API_QUOTA = 9,
    API_UNIMPLEMENTED = 10,
    API_TIME_TICK_DELAY = 11,
    API_KEY_NOT_FOUND = 1000,
    API_CANCELLED = 10000,
};

static const struct cause {
    int st_code, code;
} causes[] = {
    { ST_INVALID, ERR_PARAMETER_INVALID },
    { ST_NOT_FOUND, API_KEY_NOT_FOUND },
    { ST_EXISTS, ERR_UNEXPECTED },
    { ST_IO, ERR_IO_FAILED },
    { ST_CORRUPT, API_INTERNAL },
    { ST_NO_SPACE, API_QUOTA },
    { ST_NO_MEMORY, API_MEMORY_LIMIT },
    /* What takes too long here is waiting until a shard's time has come. */
    { ST_TIMEOUT, API_TIME_TICK_DELAY },
    { ST_CANCELLED, API_CANCELLED },
    { ST_FENCED, API_UNAVAILABLE },
    { ST_CONFLICT, ERR_UNEXPECTED },
    { ST_QUOTA, API_QUOTA },
    /* Clients retry this one, with growing pauses, and no other. */
    { ST_BUSY, API_RATE_LIMIT },
    { ST_UNAVAILABLE, API_UNAVAILABLE },
    { ST_UNSUPPORTED, API_UNIMPLEMENTED },
    { ST_DENIED, ERR_PRIVILEGE_NOT_PERMITTED },
    { ST_UNAUTHENTICATED, ERR_NOT_AUTHENTICATED },
    { ST_TOO_LARGE, ERR_PARAMETER_TOO_LARGE },
    { ST_INTERNAL, API_INTERNAL },
    { ST_NOT_READY, API_NOT_READY },
    { ST_WOULD_WAIT, API_RATE_LIMIT },
};

enum { RETRIABLE = 1, CALLER = 2 };

/* Numbers of which more is to be said than "unexpected error, do not retry". */
static const struct number {
    int code;
    Milvus__Proto__Common__ErrorCode legacy;
    unsigned flags;
} numbers[] = {
#define LEGACY(name) MILVUS__PROTO__COMMON__ERROR_CODE__##name
    { API_NOT_READY, LEGACY(NotReadyServe), RETRIABLE },
    { API_UNAVAILABLE, LEGACY(UnexpectedError), RETRIABLE },
    { API_MEMORY_LIMIT, LEGACY(InsufficientMemoryToLoad), 0 },
    { 4, LEGACY(UnexpectedError), RETRIABLE },
    { 7, LEGACY(DiskQuotaExhausted), 0 },
    { API_RATE_LIMIT, LEGACY(RateLimit), RETRIABLE },
    { API_QUOTA, LEGACY(ForceDeny), 0 },
    { API_TIME_TICK_DELAY, LEGACY(TimeTickLongDelay), 0 },
    { 12, LEGACY(UnexpectedError), RETRIABLE },
    { ERR_COLLECTION_NOT_FOUND, LEGACY(CollectionNotExists), CALLER },
    { ERR_COLLECTION_NOT_LOADED, LEGACY(UnexpectedError), CALLER },
    { ERR_COLLECTION_NOT_FULLY_LOADED, LEGACY(UnexpectedError), RETRIABLE },
    { ERR_COLLECTION_LOADED, LEGACY(UnexpectedError), CALLER },
    { ERR_COLLECTION_ILLEGAL_SCHEMA, LEGACY(UnexpectedError), CALLER },
    { 106, LEGACY(UnexpectedError), RETRIABLE },
    { ERR_SCHEMA_MISMATCH, LEGACY(SchemaMismatch), CALLER },
    { ERR_PARTITION_NOT_FOUND, LEGACY(MetaFailed), CALLER },
    { ERR_PARTITION_NOT_LOADED, LEGACY(UnexpectedError), CALLER },
    { 202, LEGACY(UnexpectedError), RETRIABLE },
    { 305, LEGACY(UnexpectedError), RETRIABLE },
    { 400, LEGACY(MetaFailed), 0 },
    { 401, LEGACY(NoReplicaAvailable), 0 },
    { 501, LEGACY(MetaFailed), 0 },
    { ERR_CHANNEL_NOT_AVAILABLE, LEGACY(NoReplicaAvailable), 0 },
    { ERR_SEGMENT_NOT_FOUND, LEGACY(SegmentNotFound), 0 },
    { ERR_INDEX_NOT_FOUND, LEGACY(IndexNotExist), CALLER },
    { ERR_INDEX_NOT_SUPPORTED, LEGACY(UnexpectedError), CALLER },
    { ERR_DATABASE_NOT_FOUND, LEGACY(UnexpectedError), CALLER },
    { ERR_DATABASE_INVALID_NAME, LEGACY(UnexpectedError), CALLER },
    { 904, LEGACY(NodeIDNotMatch), 0 },
    { 905, LEGACY(NoReplicaAvailable), 0 },
    { 1002, LEGACY(UnexpectedError), RETRIABLE },
    { ERR_PARAMETER_INVALID, LEGACY(IllegalArgument), CALLER },
    { ERR_PARAMETER_MISSING, LEGACY(UnexpectedError), CALLER },
    { ERR_PARAMETER_TOO_LARGE, LEGACY(UnexpectedError), CALLER },
    { ERR_ALIAS_NOT_FOUND, LEGACY(UnexpectedError), CALLER },
    { ERR_ALIAS_COLLECTION_CONFLICT, LEGACY(UnexpectedError), CALLER },
    { ERR_ALIAS_EXISTS, LEGACY(UnexpectedError), CALLER },
    { 1603, LEGACY(UnexpectedError), CALLER },
    { ERR_FIELD_NOT_FOUND, LEGACY(UnexpectedError), CALLER },
    { ERR_FIELD_INVALID_NAME, LEGACY(UnexpectedError), CALLER },
    { 1807, LEGACY(UnexpectedError), RETRIABLE },
    { ERR_INCONSISTENT_REQUERY, LEGACY(UnexpectedError), RETRIABLE },
#undef LEGACY
};

int px_status_code(int st_code)
{
    if (st_code == 0 || st_code >= ST_CODE_API) {
        return st_code;
    }
    for (size_t i = 0; i < ARRAY_LEN(causes); i++) {
        if (causes[i].st_code == st_code) {
            return causes[i].code;
        }
    }
    return ERR_UNEXPECTED;
}

static void add_extra(Milvus__Proto__Common__Status *out, struct arena *ar, const char *key,
                      const char *value)
{
    Milvus__Proto__Common__Status__ExtraInfoEntry *e =
        ARENA_NEW(ar, Milvus__Proto__Common__Status__ExtraInfoEntry);

    milvus__proto__common__status__extra_info_entry__init(e);
    e->key = key;
    e->value = value;
    out->extra_info = arena_alloc(ar, sizeof out->extra_info[0]);
    out->extra_info[0] = e;
    out->n_extra_info = 1;
}

void px_status_fill(Milvus__Proto__Common__Status *out, const struct status *st, struct arena *ar)
{
    const struct number *n = NULL;

    milvus__proto__common__status__init(out);
    if (st->code == 0) {
        return;
    }
    out->code = px_status_code(st->code);
    out->error_code = MILVUS__PROTO__COMMON__ERROR_CODE__UnexpectedError;
    out->retriable = st->retriable;
    for (size_t i = 0; i < ARRAY_LEN(numbers) && !n; i++) {
        if (numbers[i].code == out->code) {
            n = &numbers[i];
        }
    }
    /* A cause that came without words still has the number's own. */
    out->reason = arena_strdup(ar, st->msg[0] ? st->msg
                                   : err_text(out->code) ? err_text(out->code)
                                                         : "unexpected error");
    out->detail = out->reason;
    if (!n) {
        return;
    }
    out->error_code = n->legacy;
    out->retriable |= (n->flags & RETRIABLE) != 0;
    if (n->flags & CALLER) {
        add_extra(out, ar, "is_input_error", "true");
    }
}
