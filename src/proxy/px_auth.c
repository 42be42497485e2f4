/*
 * px_auth.c - who is calling: the `authorization` metadata against the coordinator's users.
 *
 * WHAT     base64("user:password"), without a scheme in front. A pair that was right is remembered
 *          for a moment, because hashing a password is slow on purpose and clients send it with
 *          every call. Wrong pairs are not remembered: each guess costs a hash.
 * THREADS  Any. One lock (RANK_LEAF) around the map, not held while asking.
 */
#include "base/alloc.h"
#include "base/lock.h"
#include "base/map.h"
#include "net/grpc.h"
#include "proxy/px_int.h"

#define KNOWN_MAX 4096
/* Passwords changed through another proxy are believed so long. */
#define KNOWN_MS 5000

struct px_auth {
    struct lock lock;
    struct str_map *known; /* token -> struct known */
    uint64_t generation;   /* counts px_auth_forget() */
};

struct known {
    int64_t until_us;
};

struct px_auth *px_auth_new(void)
{
    struct px_auth *a = xalloc(sizeof *a);

    lock_init(&a->lock, RANK_LEAF);
    a->known = str_map_new();
    return a;
}

void px_auth_free(struct px_auth *a)
{
    if (!a) {
        return;
    }
    str_map_free(a->known, mem_free);
    lock_done(&a->lock);
    mem_free(a);
}

void px_auth_forget(struct px_auth *a)
{
    struct str_map *old;

    lock_acquire(&a->lock);
    old = a->known;
    a->known = str_map_new();
    a->generation++;
    lock_release(&a->lock);
    str_map_free(old, mem_free);
}

bool px_auth_known(struct px_auth *a, struct slice token, uint64_t *ret_generation)
{
    const struct known *k;
    bool ok;

    lock_acquire(&a->lock);
    k = str_map_get(a->known, token);
    ok = k && clock_mono_us() < k->until_us;
    *ret_generation = a->generation;
    lock_release(&a->lock);
    return ok;
}

void px_auth_remember(struct px_auth *a, struct slice token, uint64_t generation)
{
    struct known *k = xalloc(sizeof *k);
    struct str_map *old = NULL;

    k->until_us = deadline_in_ms(KNOWN_MS);
    lock_acquire(&a->lock);
    if (str_map_count(a->known) >= KNOWN_MAX) {
        old = a->known;
        a->known = str_map_new();
    }
    if (generation == a->generation) { /* else the answer may be older than a new password */
        k = str_map_put(a->known, token, k);
    }
    lock_release(&a->lock);
    mem_free(k);
    str_map_free(old, mem_free);
}

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

struct slice px_base64_decode(struct arena *ar, struct slice s)
{
    uint32_t bits = 0;
    size_t n = 0, have = 0;
    char *out;

    while (s.n > 0 && s.p[s.n - 1] == '=') {
        s.n--;
    }
    out = arena_try(ar, s.n + 1);
    if (!out || s.n % 4 == 1) {
        return slice_n(NULL, 0);
    }
    for (size_t i = 0; i < s.n; i++) {
        int d = digit(s.p[i]);
        if (d < 0) {
            return slice_n(NULL, 0);
        }
        bits = bits << 6 | (uint32_t)d;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[n++] = (char)(bits >> have & 0xff);
        }
    }
    out[n] = '\0';
    return slice_n(out, n);
}

static int wrong(struct status *st)
{
    return st_fail(st, ST_UNAUTHENTICATED,
                   "auth check failure, please check username and password are correct");
}

int px_authenticate(struct px_call *pc, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__CredentialReq req = ELANUS__CREDENTIAL_REQ__INIT;
    Elanus__AuthResp resp = ELANUS__AUTH_RESP__INIT;
    struct slice token, text;
    const char *colon;
    uint64_t generation;
    int rc = 0;

    if (!pc->px->lim.auth || !pc->gc) {
        return 0;
    }
    token = grpc_metadata(pc->gc, "authorization");
    if (token.n == 0) {
        return wrong(st);
    }
    text = px_base64_decode(pc->ar, token);
    colon = text.p ? memchr(text.p, ':', text.n) : NULL;
    if (!colon || memchr(text.p, '\0', text.n)) {
        FAIL(st, ST_UNAUTHENTICATED, "invalid token format");
    }
    req.name = arena_strndup(pc->ar, text.p, (size_t)(colon - text.p));
    req.password = colon + 1;
    if (!px_auth_known(pc->px->auth, token, &generation)) {
        if (pc->call.no_wait) {
            FAIL(st, ST_WOULD_WAIT, "hashing a password takes long");
        }
        TRY(root->authenticate(root->self, &pc->call, &req, &resp, st));
        if (!resp.ok) {
            rc = wrong(st);
            goto out;
        }
        px_auth_remember(pc->px->auth, token, generation);
    }
    pc->user = req.name;
out:
    return rc;
}
