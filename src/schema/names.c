/*
 * names.c - names of collections, aliases, partitions, databases, indexes and fields.
 *
 * One rule for all: a letter or underscore, then letters, digits and underscores (partitions may
 * begin with a digit and contain '-'). The words of each refusal differ a little from kind to kind
 * in the API, and clients compare them.
 * THREADS  Any.
 */
#include "schema/names.h"
#include "schema/schema_int.h"
#include <stdio.h>

/* Refusals of one kind, as they follow "Invalid <what>: <name>. "; %u is the longest length. */
struct name_words {
    const char *what, *empty, *too_long, *first, *rest;
};

static const struct name_words words[] = {
    [NAME_COLLECTION] = {"collection name", "collection name should not be empty",
                         "the length of a collection name must be less than %u characters",
                         "the first character of a collection name must be an underscore or letter",
                         "collection name can only contain numbers, letters and underscores"},
    [NAME_ALIAS] = {"collection alias", "collection alias should not be empty",
                    "the length of a collection alias must be less than %u characters",
                    "the first character of a collection alias must be an underscore or letter",
                    "collection alias can only contain numbers, letters and underscores"},
    [NAME_PARTITION] = {"partition name", "Partition name should not be empty.",
                        "The length of a partition name must be less than %u characters.",
                        "The first character of a partition name must be an underscore or letter.",
                        "Partition name can only contain numbers, letters and underscores."},
    [NAME_DATABASE] = {"database name", "database name couldn't be empty",
                       "the length of a database name must be less than %u characters",
                       "the first character of a database name must be an underscore or letter",
                       "database name can only contain numbers, letters and underscores"},
    [NAME_INDEX] = {"index name", NULL,
                    "The length of a index name must be less than %u characters.",
                    "The first character of a index name must be an underscore or letter.",
                    "Index name can only contain numbers, letters, and underscores."},
};

static const struct name_words field_words = {
    "field name", "field name should not be empty",
    "The length of a field name must be less than %u characters.",
    "The first character of a field name must be an underscore or letter.",
    "Field name can only contain numbers, letters, and underscores."};

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The refusal that applies, or NULL. */
static const char *refusal(const struct name_words *w, bool partition, struct slice name,
                           uint32_t max_len)
{
    if (name.n == 0) {
        return w->empty;
    }
    if (name.n > max_len) {
        return w->too_long;
    }
    if (!is_letter(name.p[0]) && !(partition && is_digit(name.p[0]))) {
        return w->first;
    }
    for (size_t i = 1; i < name.n; i++) {
        char c = name.p[i];
        if (!is_letter(c) && !is_digit(c) && !(partition && c == '-')) {
            return w->rest;
        }
    }
    return NULL;
}

/* too_long holds the only conversion among the words. */
static void fill_in(char *text, size_t size, const struct name_words *w, const char *why,
                    uint32_t max_len)
{
    if (why == w->too_long) {
        const char *at = strstr(why, "%u");
        snprintf(text, size, "%.*s%u%s", (int)(at - why), why, max_len, at + 2);
    } else {
        snprintf(text, size, "%s", why);
    }
}

/* Long names are shown in part: the message has room for little more than a legal one. */
static int shown(struct slice name)
{
    return (int)MIN(name.n, (size_t)300);
}

int name_check(enum name_kind kind, struct slice name, uint32_t max_len, struct status *st)
{
    const struct name_words *w = &words[kind];
    const char *why = refusal(w, kind == NAME_PARTITION, name, max_len);
    char text[128];
    if (!why) {
        return 0;
    }
    fill_in(text, sizeof text, w, why, max_len);
    if (kind == NAME_DATABASE) {
        return st_fail(st, ERR_DATABASE_INVALID_NAME, "%s: %s[database=%.*s]", text,
                       err_text(ERR_DATABASE_INVALID_NAME), shown(name), name.p ? name.p : "");
    }
    if (name.n == 0 && kind != NAME_PARTITION) {
        return fail_param(st, "%s", text);
    }
    return fail_param(st, "Invalid %s: %.*s. %s", w->what, shown(name), name.p ? name.p : "", text);
}

/* Words of the filter language; as field names they could not be used in a filter. */
static const char *const keywords[] = {
    "like",
    "exists",
    "EXISTS",
    "and",
    "or",
    "not",
    "in",
    "true",
    "True",
    "TRUE",
    "false",
    "False",
    "FALSE",
    "json_contains",
    "JSON_CONTAINS",
    "json_contains_all",
    "JSON_CONTAINS_ALL",
    "json_contains_any",
    "JSON_CONTAINS_ANY",
    "array_contains",
    "ARRAY_CONTAINS",
    "array_contains_all",
    "ARRAY_CONTAINS_ALL",
    "array_contains_any",
    "ARRAY_CONTAINS_ANY",
    "array_length",
    "ARRAY_LENGTH",
    "text_match",
    "TEXT_MATCH",
    "phrase_match",
    "PHRASE_MATCH",
    "random_sample",
    "RANDOM_SAMPLE",
};

static const char *const reserved[] = {"RowID", "Timestamp", "__virtual_pk__"};

static bool listed(struct slice name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (slice_is(name, list[i])) {
            return true;
        }
    }
    return false;
}

int schema_check_field_name(struct slice name, uint32_t max_len, struct status *st)
{
    const char *why = refusal(&field_words, false, name, max_len), *base;
    char text[400];
    base = err_text(ERR_FIELD_INVALID_NAME);
    if (why == field_words.empty) {
        return st_fail(st, ERR_FIELD_INVALID_NAME, "%s: %s[field=]", why, base);
    }
    if (why) {
        fill_in(text, sizeof text, &field_words, why, max_len);
    } else if (listed(name, keywords, ARRAY_LEN(keywords))) {
        snprintf(text, sizeof text, "%.*s is keyword in milvus.", SLICE_ARG(name));
    } else if (listed(name, reserved, ARRAY_LEN(reserved))) {
        snprintf(text, sizeof text, "%.*s is reserved for internal use.", SLICE_ARG(name));
    } else {
        return 0;
    }
    return st_fail(st, ERR_FIELD_INVALID_NAME, "Invalid field name: %.*s. %s: %s[field=%.*s]",
                   shown(name), name.p, text, base, shown(name), name.p);
}
