/* test_password.c - hashes of passwords: right, wrong, foreign. */
#include "unit.h"
#include "base/password.h"

static void test_password_when_hashed_then_only_it_matches(void **state)
{
    struct status st = STATUS_INIT;
    uint8_t salt[PASSWORD_SALT_BYTES], hash[PASSWORD_HASH_BYTES];
    ASSERT_OK(password_hash(SLICE_LIT("Milvus"), salt, hash, &st));
    struct slice s = slice_n(salt, sizeof salt), h = slice_n(hash, sizeof hash);
    assert_true(password_matches(SLICE_LIT("Milvus"), s, h));
    assert_false(password_matches(SLICE_LIT("milvus"), s, h));
    assert_false(password_matches(SLICE_LIT("Milvus "), s, h));
    assert_false(password_matches(SLICE_LIT(""), s, h));
    hash[20] ^= 1;
    assert_false(password_matches(SLICE_LIT("Milvus"), s, h));
}

static void test_password_when_hashed_twice_then_hashes_differ(void **state)
{
    struct status st = STATUS_INIT;
    uint8_t salt[2][PASSWORD_SALT_BYTES], hash[2][PASSWORD_HASH_BYTES];
    ASSERT_OK(password_hash(SLICE_LIT(""), salt[0], hash[0], &st));
    ASSERT_OK(password_hash(SLICE_LIT(""), salt[1], hash[1], &st));
    assert_memory_not_equal(salt[0], salt[1], PASSWORD_SALT_BYTES);
    assert_memory_not_equal(hash[0], hash[1], PASSWORD_HASH_BYTES);
    assert_true(password_matches(SLICE_LIT(""), slice_n(salt[1], PASSWORD_SALT_BYTES),
                                 slice_n(hash[1], PASSWORD_HASH_BYTES)));
}

static void test_password_when_salt_or_hash_is_foreign_then_no_match(void **state)
{
    struct status st = STATUS_INIT;
    uint8_t salt[PASSWORD_SALT_BYTES], hash[PASSWORD_HASH_BYTES];
    ASSERT_OK(password_hash(SLICE_LIT("x"), salt, hash, &st));
    assert_false(password_matches(SLICE_LIT("x"), SLICE_LIT(""), SLICE_LIT("")));
    assert_false(password_matches(SLICE_LIT("x"), slice_n(salt, 15), slice_n(hash, sizeof hash)));
    assert_false(password_matches(SLICE_LIT("x"), slice_n(salt, 16), slice_n(hash, 32)));
    hash[0] = 9; /* parameters of the future */
    assert_false(password_matches(SLICE_LIT("x"), slice_n(salt, 16), slice_n(hash, sizeof hash)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_password_when_hashed_then_only_it_matches),
        cmocka_unit_test(test_password_when_hashed_twice_then_hashes_differ),
        cmocka_unit_test(test_password_when_salt_or_hash_is_foreign_then_no_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
