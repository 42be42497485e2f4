/* simd_scan_ref.c - the meaning of the scan kernels: the loops of simd_scan_body.h, scalar. */
#define UNUSED_BODY
#include "simd/simd_scan_body.h"
#include "simd/simd_scan_int.h"

const struct simd_scan simd__scan_ref = {
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
