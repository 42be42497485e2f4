/*
 * password.h - one-way hashes of passwords: scrypt with a random salt.
 *
 * A hash is PASSWORD_HASH_BYTES: one byte naming the parameters, then 32 bytes. Hashing takes some
 * 30 ms and 16 MiB on purpose; callers keep it off net loops and remember what they verified.
 * Zero bytes at the end of a password do not count (a property of HMAC): texts have none.
 */
#pragma once
#include "base/compiler.h"
#include "base/slice.h"
#include "base/status.h"

enum { PASSWORD_SALT_BYTES = 16, PASSWORD_HASH_BYTES = 33 };

/* A new salt and the hash under it. ST_INTERNAL when the system has no randomness or memory. */
int password_hash(struct slice password, uint8_t ret_salt[PASSWORD_SALT_BYTES],
                  uint8_t ret_hash[PASSWORD_HASH_BYTES], struct status *st);
/* False also for a salt or hash that is none of ours. Takes the same time for every password. */
bool password_matches(struct slice password, struct slice salt, struct slice hash);
