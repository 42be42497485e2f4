/* names.h - what the API lets a thing be called, with its codes and words. */
#pragma once
#include "base/slice.h"
#include "base/status.h"

enum name_kind { NAME_COLLECTION, NAME_ALIAS, NAME_PARTITION, NAME_DATABASE, NAME_INDEX };

/* 0, or ERR_PARAMETER_INVALID (databases: ERR_DATABASE_INVALID_NAME) with the API's message. An
 * empty index name is allowed: it means the field's name. max_len is in bytes, inclusive.
 * Field names: schema_check_field_name(). */
int name_check(enum name_kind kind, struct slice name, uint32_t max_len, struct status *st);
