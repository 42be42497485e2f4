/*
 * ixfile.h - the file of an index: checked head, page-aligned sections, checked table, footer.
 *
 * FORMAT      Little-endian. Offset 0: struct ix_head, padded to 4,096 bytes. Then sections, each
 *             starting at a multiple of 4,096. Then the table, one struct ix_entry per section, and
 *             at the very end struct ix_tail with the table's offset, count and CRC-32C and its
 *             own. Sections hold offsets and row numbers, never pointers, and are used in place.
 *             docs/format.md "Index files" lists the sections of each type.
 * WRITING     Front to back, one section open at a time: nothing is ever rewritten, so any sink
 *             that appends will do.
 * READING     ix_file_open() checks head, table, bounds and (unless trusted) every section's sum.
 * AGE         Two numbers in the head: the version of the container, and the format of the
 *             sections, which each type counts for itself (index_table.def). A file of another
 *             number than this program writes is ST_UNSUPPORTED, not damaged: whoever holds the rows
 *             builds it anew.
 */
#pragma once
#include "index/ann.h"

#define IX_ALIGN 4096u
#define IX_SECTIONS_MAX 32
#define IX_VERSION 1u /* the head keeps its places whatever becomes of the rest */
#define IX_TAG(a, b, c, d) \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

struct ix_head {
    char magic[8]; /* "elanusIX" */
    uint16_t version;
    uint16_t format; /* of the type's sections; 1 is written as 0, as before formats were counted */
    uint32_t type, metric, vec_type; /* the enums' values */
    uint64_t dim, nrows;
    char params[512]; /* index_params_print(), zero-terminated */
    uint32_t crc;     /* of everything before it */
};
struct ix_entry {
    uint32_t tag, crc;
    uint64_t offset, size;
};

/* An open file: views into the mapping. */
struct ix_file {
    const uint8_t *map;
    size_t size;
    const struct ix_head *head;
    uint32_t nsections;
    const struct ix_entry *entries;
};
/* Fails: ST_CORRUPT; ST_UNSUPPORTED, of another version, format or type than this program reads. */
int ix_file_open(const struct index_source *src, struct ix_file *ret, struct status *st);
/* The section's bytes. ST_CORRUPT when it is absent or its size is not want (SIZE_MAX: any). */
int ix_section(const struct ix_file *f, uint32_t tag, size_t want, const void **ret_p,
               size_t *ret_size, struct status *st);
bool ix_has_section(const struct ix_file *f, uint32_t tag);

/* A file being written. The sink sees bytes in order. */
struct ixw;
int ixw_new(const struct index_rows *rows, const struct index_params *params, index_sink_fn *sink,
            void *sink_arg, struct ixw **ret_w, struct status *st);
int ixw_begin(struct ixw *w, uint32_t tag, struct status *st);
int ixw_put(struct ixw *w, const void *p, size_t n, struct status *st);
int ixw_end(struct ixw *w, struct status *st);
/* begin, put, end. */
int ixw_section(struct ixw *w, uint32_t tag, const void *p, size_t n, struct status *st);
int ixw_finish(struct ixw *w, struct status *st);
void ixw_free(struct ixw *w);
