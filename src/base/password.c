/*
 * password.c - scrypt from OpenSSL, with parameters named by the first byte of a hash.
 *
 * scrypt (Percival, "Stronger Key Derivation via Sequential Memory-Hard Functions") costs an
 * attacker memory as well as time. N = 2^14, r = 8, p = 1 are the paper's values for logins.
 * A stronger set gets the next number and old hashes stay readable.
 */
#include "base/password.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

enum { PARAMS_1 = 1 };

static bool derive(struct slice password, const uint8_t *salt, uint8_t *ret)
{
    return EVP_PBE_scrypt(password.n ? password.p : "", password.n, salt, PASSWORD_SALT_BYTES,
                          1 << 14, 8, 1, (uint64_t)64 << 20, ret, PASSWORD_HASH_BYTES - 1) == 1;
}

int password_hash(struct slice password, uint8_t ret_salt[PASSWORD_SALT_BYTES],
                  uint8_t ret_hash[PASSWORD_HASH_BYTES], struct status *st)
{
    if (RAND_bytes(ret_salt, PASSWORD_SALT_BYTES) != 1 ||
        !derive(password, ret_salt, ret_hash + 1)) {
        return st_fail(st, ST_INTERNAL, "a password could not be hashed");
    }
    ret_hash[0] = PARAMS_1;
    return 0;
}

bool password_matches(struct slice password, struct slice salt, struct slice hash)
{
    static const uint8_t nobody[PASSWORD_SALT_BYTES];
    uint8_t derived[PASSWORD_HASH_BYTES - 1];
    bool known = salt.n == PASSWORD_SALT_BYTES && hash.n == PASSWORD_HASH_BYTES &&
                 hash.p[0] == PARAMS_1;

    return derive(password, known ? (const uint8_t *)salt.p : nobody, derived) && known &&
           CRYPTO_memcmp(derived, hash.p + 1, sizeof derived) == 0;
}
