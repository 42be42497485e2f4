/* simd_scan_int.h - the tables of the levels that have one; see simd_scan.c. */
#pragma once
#include "simd/simd_scan.h"

extern const struct simd_scan simd__scan_ref, simd__scan_avx2, simd__scan_avx512, simd__scan_neon;
