/* simd_codes_vnni.c - coded rows with VNNI: scalar quantised codes are unsigned, as it wants. */
#include "simd/simd_x86.h"

typedef __m512i vc;
typedef __m512i va;
typedef __m512 vt;
#define VC_BYTES 64
INL va va_dot(bool is_small, va s, vc c, const int8_t *v)
{
    (void)is_small;
    return _mm512_dpbusd_epi32(s, c, _mm512_load_si512(v));
}
INL va va_self8(va s, vc c)
{
    return _mm512_dpbusd_epi32(s, c, _mm512_xor_si512(c, _mm512_set1_epi8((char)0x80)));
}
INL va va_self(va s, vc c)
{
    return _mm512_dpbusd_epi32(s, c, c);
}
#include "simd/simd_avx512_sq.h"

void simd__fill_codes_vnni(struct simd_ops *ops)
{
    ts_fill(ops);
}
