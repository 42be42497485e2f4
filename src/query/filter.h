/*
 * filter.h - filter text -> plan -> bitset.
 *
 * LANGUAGE   reference: behaviour §6 (precedence, types, three-valued logic). Constructs that are
 * not served yet fail with ERR_PARAMETER_INVALID and name themselves ("text_match is not supported").
 * THREADS    pure functions; any thread.
 */
#pragma once
#include "query/plan.h"
#include "schema/column.h"

/* Named template values of a request. */
struct template_value {
    struct slice name;
    struct value value;
};

/* Parses and types a filter. Empty or blank text: *ret_expr = NULL (everything). Errors carry
 * ERR_PARAMETER_INVALID and the API's text: "cannot parse expression: <text>, error: ...",
 * "predicate is not a boolean expression: ..." and the like; the caller puts
 * "failed to create query plan" or "failed to create delete plan" in front. */
int filter_parse(struct slice text, const struct schema *s, const struct template_value *templates,
                 size_t ntemplates, struct arena *ar, const struct expr **ret_expr,
                 struct status *st);

/* How the evaluator reaches rows: one chunk of a segment, all columns of equal row count. */
struct chunk_reader {
    uint32_t nrows;
    /* The column of a field in this chunk, or NULL when the segment has no such field (added
     * later): then every row has the field's default, or null. */
    const struct column *(*column)(const struct chunk_reader *cr, int64_t field_id);
    const struct schema *schema;
};

/* Sets bit i of out (bits_words(nrows) words, all overwritten) where the filter is true for row i.
 * Rows that are null or of the wrong type count as unknown, hence not set. `ar` is scratch. */
int filter_eval(const struct expr *e, const struct chunk_reader *cr, struct arena *ar,
                uint64_t *out, struct status *st);
