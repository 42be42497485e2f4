/*
 * co_root_user.c - users and their passwords.
 *
 * Only salted hashes are stored (base/password.h). Hashing takes tens of milliseconds and is done
 * outside every lock; proxies remember a password they have seen verified. An unknown user costs
 * as much as a wrong password, so the time of an answer tells nothing.
 */
#include "coord/co_int.h"
#include "base/password.h"

struct secret {
    uint8_t salt[PASSWORD_SALT_BYTES];
    uint8_t hash[PASSWORD_HASH_BYTES];
};

static void set_secret(Elanus__User *u, struct secret *s)
{
    u->salt = (ProtobufCBinaryData){ sizeof s->salt, s->salt };
    u->password_hash = (ProtobufCBinaryData){ sizeof s->hash, s->hash };
}

int co__root_create_user(void *self, const struct call *call, const Elanus__CredentialReq *req,
                         Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    struct co_notice no;
    struct co_txn tx;
    struct secret secret;
    Elanus__User u;
    int rc = password_hash(slice_of(req->password), secret.salt, secret.hash, st);

    (void)resp;
    if (rc != 0) {
        return rc;
    }
    co__ddl_begin(co, &no, call->ar);
    co__txn_init(&tx, co, call->ar);
    elanus__user__init(&u);
    if (str_map_get(co->users, slice_of(req->name))) {
        FAIL(st, ERR_PARAMETER_INVALID, "user already exists:%s", req->name);
    }
    if ((int64_t)str_map_count(co->users) >= config_int(co->opts.config, "proxy.maxUserNum")) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "unable to add user because the number of users has reached the limit");
    }
    TRY(co__ts(co, 1, call->deadline_us, &u.created_ts, st));
    u.name = req->name;
    set_secret(&u, &secret);
    co__put(&tx, CO_USER, &u);
    TRY(co__commit(&tx, st));
out:
    co__txn_done(&tx);
    co__ddl_end(co, &no);
    return rc;
}

/* A copy of the user's secret; false: no such user. */
static bool secret_of(struct coord *co, const char *name, struct arena *ar, struct slice *ret_salt,
                      struct slice *ret_hash)
{
    struct co_rec *rec;

    *ret_salt = *ret_hash = (struct slice){ "", 0 };
    rwlock_read(&co->state);
    rec = str_map_get(co->users, slice_of(name));
    if (rec) {
        const Elanus__User *u = rec->pb;
        *ret_salt = arena_copy(ar, slice_n(u->salt.data, u->salt.len));
        *ret_hash = arena_copy(ar, slice_n(u->password_hash.data, u->password_hash.len));
    }
    rwlock_release(&co->state);
    return rec != NULL;
}

/* root without a hash still has the password of the configuration. */
static bool secret_matches(struct coord *co, const char *name, const char *password,
                           struct slice salt, struct slice hash)
{
    const char *initial = config_str(co->opts.config, "common.security.defaultRootPassword");
    size_t n = strlen(password);
    unsigned diff = n != strlen(initial);

    if (hash.n || strcmp(name, CO_ROOT_USER) != 0) {
        return password_matches(slice_of(password), salt, hash);
    }
    for (size_t i = 0; i < n; i++) { /* always over the whole guess */
        diff |= (unsigned)(password[i] ^ initial[i < strlen(initial) ? i : 0]);
    }
    return diff == 0;
}

int co__root_update_user(void *self, const struct call *call, const Elanus__CredentialReq *req,
                         Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    struct co_notice no;
    struct co_txn tx;
    struct secret secret;
    struct slice salt, hash;
    struct co_rec *rec;
    Elanus__User u;
    bool known = secret_of(co, req->name, call->ar, &salt, &hash);
    bool right = secret_matches(co, req->name, req->old_password, salt, hash);
    int rc = 0;

    (void)resp;
    if (!known || !right) {
        return st_fail(st, ERR_NOT_AUTHENTICATED,
                       "old password not correct for %s: not authenticated", req->name);
    }
    rc = password_hash(slice_of(req->password), secret.salt, secret.hash, st);
    if (rc != 0) {
        return rc;
    }
    co__ddl_begin(co, &no, call->ar);
    co__txn_init(&tx, co, call->ar);
    rec = str_map_get(co->users, slice_of(req->name));
    if (!rec) {
        FAIL(st, ERR_PARAMETER_INVALID, "user %s was dropped", req->name);
    }
    u = *(const Elanus__User *)rec->pb;
    if (!slice_eq(slice_n(u.password_hash.data, u.password_hash.len), hash)) {
        FAIL(st, ERR_NOT_AUTHENTICATED, "old password not correct for %s: not authenticated",
             req->name);
    }
    set_secret(&u, &secret);
    co__put(&tx, CO_USER, &u);
    TRY(co__commit(&tx, st));
out:
    co__txn_done(&tx);
    co__ddl_end(co, &no);
    return rc;
}

int co__root_drop_user(void *self, const struct call *call, const Elanus__CredentialReq *req,
                       Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    struct co_notice no;
    struct co_txn tx;
    struct co_rec *rec;
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    co__txn_init(&tx, co, call->ar);
    if (strcmp(req->name, CO_ROOT_USER) == 0) {
        FAIL(st, ERR_PRIVILEGE_NOT_PERMITTED,
             "root user cannot be deleted: privilege not permitted");
    }
    rec = str_map_get(co->users, slice_of(req->name));
    if (rec) {
        co__delete(&tx, CO_USER, rec->pb);
        TRY(co__commit(&tx, st));
    }
out:
    co__txn_done(&tx);
    co__ddl_end(co, &no);
    return rc;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int co__root_list_users(void *self, const struct call *call, const Elanus__Empty *req,
                        Elanus__NameList *resp, struct status *st)
{
    struct coord *co = self;
    struct slice key;
    size_t pos = 0;
    void *v;

    (void)req;
    (void)st;
    rwlock_read(&co->state);
    resp->names = arena_alloc(call->ar, (str_map_count(co->users) + 1) * sizeof(char *));
    while (str_map_next(co->users, &pos, &key, &v)) {
        const Elanus__User *u = ((struct co_rec *)v)->pb;
        resp->names[resp->n_names++] = arena_strdup(call->ar, u->name);
    }
    rwlock_release(&co->state);
    qsort(resp->names, resp->n_names, sizeof(char *), by_text);
    return 0;
}

int co__root_authenticate(void *self, const struct call *call, const Elanus__CredentialReq *req,
                          Elanus__AuthResp *resp, struct status *st)
{
    struct slice salt, hash;
    bool known = secret_of(self, req->name, call->ar, &salt, &hash);
    bool right = secret_matches(self, req->name, req->password, salt, hash); /* hashes always */

    (void)st;
    resp->ok = known && right;
    return 0;
}
