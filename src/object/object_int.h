/* object_int.h - the method table behind object.h. */
#pragma once
#include "object/object.h"

struct object_writer {
    struct object_store *os;
    uint64_t size; /* bytes appended */
};

/* Keys and prefixes have been checked by object.c. */
struct object_ops {
    int (*writer_open)(struct object_store *os, struct slice key, struct object_writer **ret_ow,
                       struct status *st);
    int (*appendv)(struct object_writer *ow, const struct file_part *parts, size_t nparts,
                   struct status *st);
    int (*commit)(struct object_writer *ow, struct status *st);
    void (*abort)(struct object_writer *ow);
    int (*del)(struct object_store *os, struct slice key, struct status *st);
    int (*delete_folder)(struct object_store *os, struct slice prefix, struct status *st);
    int (*stat)(struct object_store *os, struct slice key, struct object_info *ret,
                struct status *st);
    int (*get)(struct object_store *os, struct slice key, uint64_t off, void *p, size_t n,
               size_t *ret_n, struct status *st);
    int (*map)(struct object_store *os, struct slice key, struct mapping **ret_map,
               struct status *st);
    int (*descriptor)(struct object_store *os, struct slice key); /* may be NULL: there are none */
    int (*list)(struct object_store *os, const struct object_range *range, struct arena *ar,
                struct object_list *ret, struct status *st); /* range->limit is set */
    void (*close)(struct object_store *os);
};

struct object_store {
    const struct object_ops *ops;
};
