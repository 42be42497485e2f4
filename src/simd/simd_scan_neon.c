/* simd_scan_neon.c - the loops of simd_scan_body.h, vectorised by the compiler. */
#define UNUSED_BODY
#include "simd/simd_scan_body.h"
#include "simd/simd_scan_int.h"

const struct simd_scan simd__scan_neon = {
    .nearest = body_nearest,
    .scores = body_scores,
    .dot8 = body_dot8,
    .lut4 = body_lut4,
    .lut8 = body_lut8,
    .tables = body_tables,
    .bytes = body_bytes,
    .planes = body_planes,
    .cut = body_cut,
};
