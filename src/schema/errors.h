/*
 * errors.h - the API's own error numbers, as status codes (>= ST_CODE_API).
 *
 * A room that knows which of the API's errors fits uses these directly; generic causes (ST_IO,
 * ST_TIMEOUT, ...) become API numbers in proxy/px_status.c. The base text that the API puts in
 * front of the bracketed fields comes from err_text(). With these codes st->msg is the whole text
 * ("<what is wrong>: <base text>[key=value]"), ready to be sent.
 */
#pragma once
#include "base/status.h"

enum {
    ERR_COLLECTION_NOT_FOUND = 100,
    ERR_COLLECTION_NOT_LOADED = 101,
    ERR_COLLECTION_LIMIT = 102,
    ERR_COLLECTION_NOT_FULLY_LOADED = 103,
    ERR_COLLECTION_LOADED = 104,
    ERR_COLLECTION_ILLEGAL_SCHEMA = 105,
    ERR_SCHEMA_MISMATCH = 109,
    ERR_PARTITION_NOT_FOUND = 200,
    ERR_PARTITION_NOT_LOADED = 201,
    ERR_CAPACITY_EXCEEDED = 250,
    ERR_CHANNEL_NOT_AVAILABLE = 503,
    ERR_SEGMENT_NOT_FOUND = 600,
    ERR_INDEX_NOT_FOUND = 700,
    ERR_INDEX_NOT_SUPPORTED = 701,
    ERR_DATABASE_NOT_FOUND = 800,
    ERR_DATABASE_LIMIT = 801,
    ERR_DATABASE_INVALID_NAME = 802,
    ERR_IO_FAILED = 1001,
    ERR_PARAMETER_INVALID = 1100,
    ERR_PARAMETER_MISSING = 1101,
    ERR_PARAMETER_TOO_LARGE = 1102,
    ERR_NOT_AUTHENTICATED = 1400,
    ERR_PRIVILEGE_NOT_PERMITTED = 1401,
    ERR_ALIAS_NOT_FOUND = 1600,
    ERR_ALIAS_COLLECTION_CONFLICT = 1601,
    ERR_ALIAS_EXISTS = 1602,
    ERR_FIELD_NOT_FOUND = 1700,
    ERR_FIELD_INVALID_NAME = 1701,
    ERR_SEGCORE = 2000,
    ERR_SEGCORE_UNSUPPORTED = 2001,
    ERR_INCONSISTENT_REQUERY = 2200,
    ERR_CLUSTERING_NOT_SUPPORTED = 2303,
    ERR_NO_CLUSTERING_KEY = 2304,
    ERR_OPERATION_UNSUPPORTED = 3000,
    ERR_UNEXPECTED = 65535,
};

/* "collection not found" for 100 and so on; NULL for numbers the API does not define. */
const char *err_text(int code);
