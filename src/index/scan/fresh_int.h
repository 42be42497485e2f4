/* fresh_int.h - what the files of fresh.h share: codes in order of arrival, and codes in lists. */
#pragma once
#include "base/compiler.h"
#include "index/ann_int.h"
#include "index/quant/codec.h"
#include "index/scan/fresh.h"

#define FRESH_PIECE 8192u
#define FRESH_PIECES 14u /* 2^27 rows */
#define FRESH_CELLS 128u   /* at most */
#define FRESH_BLOCK 512u   /* rows scanned at a time */
#define FRESH_ANGLES 128u

/* Bounds of what rows add to a key and of the lengths of their residuals (codec_signs), over the
 * rows a search may meet. They only widen: by the adder, before it publishes the rows; relaxed. */
struct fresh_spread {
    _Atomic float add, low, high;
};

/* Rows of a list, ascending: their signs eight side by side from FRESH_CHUNK_SIGNS on, then their
 * numbers. cap is a multiple of 8. */
#define FRESH_CHUNK_SIGNS 64u
#define FRESH_CHUNK_FIRST 64u /* rows of a list's first chunk; every further one holds twice that */
struct fresh_chunk {
    struct fresh_chunk *next; /* set before the list's n counts rows of it */
    uint32_t *rows;
    uint32_t cap;
};
static inline uint64_t *fresh__chunk_signs(const struct fresh_chunk *ch)
{
    return (uint64_t *)(void *)((uint8_t *)(uintptr_t)ch + FRESH_CHUNK_SIGNS);
}
struct fresh_list {
    _Atomic uint32_t n; /* release by the adder, acquire by searches: covers all that follows */
    struct fresh_chunk *head;
    struct fresh_spread spread;
    /* The adder's. */
    struct fresh_chunk *tail;
    uint32_t tail_n;
};

/* Centres as the adder and searches use them. */
struct fresh_centres {
    uint32_t n;
    uint8_t *codes; /* compared with a search's query */
    uint8_t *pqs;   /* prepared as queries, compared with the codes of rows */
    float *bias;    /* added to keys of rows: like rows meet by distance, for IP too */
};

/* Lists in cells of near lists: lists first[c] .. first[c + 1] are those of cell c. */
struct fresh_lists {
    struct fresh_centres cells, lists;
    uint32_t *first;
    struct fresh_list *list;
    _Atomic uint32_t sorted; /* rows below are in lists; after the lists' n */
    struct fresh_lists *older;
    size_t memory;
};

struct fresh_making;

/* Attached rows: fresh_guide.c. */
#define GUIDE_NONE UINT32_MAX
#define GUIDE_PIECE 4096u /* units in the first piece; each further one holds twice as many */
#define GUIDE_PIECES 17u
struct fresh_guide {
    uint64_t id;
    uint32_t nrows; /* the guide's */
    float far;
    _Atomic uint32_t attached; /* rows below are in lists, or outside; after those */
    struct fresh_list outside;
    _Atomic uint32_t *pieces[GUIDE_PIECES]; /* set before what names their units */
    _Atomic size_t memory;
    struct fresh_guide *older;
    /* The attacher's. */
    uint32_t units, next[3]; /* the next free one, and of each class within a line */
    _Atomic uint32_t heads[]; /* nrows; release, acquire by searches: covers the cells */
};

struct fresh {
    enum metric metric;
    enum vec_type type;
    size_t dim, stride; /* of codes */
    size_t pq_stride;
    size_t words; /* of a row's signs */
    struct codec *codec;
    struct codec *wide; /* the same for f32 vectors: centres */
    _Atomic uint32_t coded;
    uint32_t limits[FRESH_ANGLES + 1]; /* signs that may differ when the cosine is i / 64 - 1 */
    float eases[FRESH_ANGLES + 1];     /* the part of the query's zeros that may, too */
    /* Set before coded covers them. */
    uint8_t *pieces[FRESH_PIECES];
    uint64_t *signs[FRESH_PIECES];              /* eight rows side by side */
    struct fresh_spread *spread[FRESH_PIECES];  /* of FRESH_BLOCK rows each */
    /* Release by the adder when they hold as many rows as the ones before, acquire by searches.
     * Earlier ones stay until the end: a search may read them. They are a third of these. */
    _Atomic(struct fresh_lists *) lists;
    /* The same; NULL: none now. */
    _Atomic(struct fresh_guide *) guide;
    struct fresh_guide *guides; /* the attacher's: all, newest first */
    struct scratch_pool scratch;
    /* The adder's. */
    struct fresh_making *making;
    uint32_t sort_at; /* new lists when there are so many rows */
    bool unsorted;    /* no memory for lists once */
};

static inline uint32_t fresh__piece_of(uint32_t row)
{
    return 31 - (uint32_t)__builtin_clz(row / FRESH_PIECE + 1);
}
static inline uint32_t fresh__piece_row0(uint32_t piece)
{
    return FRESH_PIECE * ((1u << piece) - 1);
}
static inline uint32_t fresh__piece_rows(uint32_t piece)
{
    return FRESH_PIECE << piece;
}
static inline uint8_t *fresh__code(const struct fresh *fr, uint32_t row)
{
    uint32_t p = fresh__piece_of(row);
    return fr->pieces[p] + (row - fresh__piece_row0(p)) * fr->stride;
}
/* Rows from row on that lie one after the other, at most n. */
static inline uint32_t fresh__run(uint32_t row, uint32_t n)
{
    uint32_t p = fresh__piece_of(row);
    return MIN(n, fresh__piece_row0(p) + fresh__piece_rows(p) - row);
}

void fresh__spread_init(struct fresh_spread *sp);
/* The adder's: the signs of a row with this code, as row `at` of blocks, and its share of sp. */
void fresh__put_signs(const struct fresh *fr, const uint8_t *code, uint64_t *blocks, uint32_t at,
                      struct fresh_spread *sp);
/* The same into a list, with its number; *memory grows by what the list did. False without memory. */
bool fresh__list_add(const struct fresh *fr, struct fresh_list *l, uint32_t row,
                     const uint8_t *code, size_t *memory);
void fresh__list_done(struct fresh_list *l);
void fresh__guides_free(struct fresh_guide *g);
/* A cell: word 0 the next one, then rows. */
const _Atomic uint32_t *fresh__guide_cell(const struct fresh_guide *g, uint32_t ref,
                                          uint32_t *ret_words);
void fresh__lists_free(struct fresh_lists *fl);
size_t fresh__lists_memory(const struct fresh *fr);
void fresh__making_free(struct fresh_making *m);
void fresh__scratch_free(void *scratch);
