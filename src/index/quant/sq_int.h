/* sq_int.h - what sq.c and sq_train.c share. */
#pragma once
#include "index/quant/codec_int.h"

static inline uint32_t sq__levels(enum codec_kind kind)
{
    return kind == CODEC_SQ8 ? 256 : kind == CODEC_SQ6 ? 64 : 16;
}

int sq__train(struct codec *c, uint8_t *payload, const struct codec_train *t, struct status *st);
