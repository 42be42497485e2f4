/* hash.h - checksums and hashes over bytes (xxHash; CRC32C in hardware where there is any). */
#pragma once
#include "base/compiler.h"

/* CRC-32C (Castagnoli), init and final xor 0xFFFFFFFF; pass 0 first, then the previous result. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
/* The same without special instructions: what tests compare with. */
uint32_t crc32c_portable(uint32_t crc, const void *p, size_t n);
uint64_t hash64(const void *p, size_t n); /* XXH3: not for files whose format is not ours */
uint32_t murmur3_32(const void *p, size_t n, uint32_t seed);
