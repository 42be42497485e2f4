/*
 * px_user.c - users and passwords.
 *
 * Passwords arrive base64-encoded. Roles and grants are not served: with authentication on, every
 * user may do everything.
 * THREADS  Workers.
 */
#include "proxy/px_methods.h"
#include <ctype.h>

static int check_user_name(const struct px_limits *lim, const char *name, struct status *st)
{
    size_t n = strlen(name);
    int rc = 0;

    if (n == 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "invalid user name %s. user name can not be empty", name);
    }
    if (n > lim->max_user_length) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "invalid user name %.300s with length %zu, the length of username must be less than "
             "%u", name, n, lim->max_user_length);
    }
    if (!isalpha((unsigned char)name[0])) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "invalid user name %s, the first character must be a letter, but got %c", name,
             name[0]);
    }
    for (size_t i = 1; i < n; i++) {
        if (!isalnum((unsigned char)name[i]) && name[i] != '_') {
            FAIL(st, ERR_PARAMETER_INVALID,
                 "invalid user name %s, contains invalid character, username must contain only "
                 "numbers, letters and underscores", name);
        }
    }
out:
    return rc;
}

/* Decodes; a password that is not checked may have any length. */
static int password(struct px_call *pc, const char *user, const char *encoded, bool check,
                    const char **ret, struct status *st)
{
    const struct px_limits *lim = &pc->px->lim;
    struct slice p = px_base64_decode(pc->ar, slice_of(encoded));
    int rc = 0;

    if (!p.p || memchr(p.p, '\0', p.n)) {
        FAIL(st, ERR_PARAMETER_INVALID, "decode password fail: username: %s", user);
    }
    if (check && (p.n < lim->min_password || p.n > lim->max_password)) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "invalid password length: invalid parameter[%u <= value(%zu) <= %u]",
             lim->min_password, p.n, lim->max_password);
    }
    *ret = p.p;
out:
    return rc;
}

int px_create_credential(struct px_call *pc, const PX_PB(CreateCredentialRequest) *req,
                         px_status_pb *resp, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__CredentialReq r = ELANUS__CREDENTIAL_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    int rc;

    (void)resp;
    TRY(check_user_name(&pc->px->lim, req->username, st));
    TRY(password(pc, req->username, req->password, true, &r.password, st));
    r.name = req->username;
    TRY(root->create_user(root->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

int px_update_credential(struct px_call *pc, const PX_PB(UpdateCredentialRequest) *req,
                         px_status_pb *resp, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__CredentialReq r = ELANUS__CREDENTIAL_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    int rc;

    (void)resp;
    TRY(password(pc, req->username, req->oldpassword, false, &r.old_password, st));
    TRY(password(pc, req->username, req->newpassword, true, &r.password, st));
    r.name = req->username;
    TRY(root->update_user(root->self, &pc->call, &r, &empty, st));
    px_auth_forget(pc->px->auth);
out:
    return rc;
}

int px_delete_credential(struct px_call *pc, const PX_PB(DeleteCredentialRequest) *req,
                         px_status_pb *resp, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__CredentialReq r = ELANUS__CREDENTIAL_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    int rc;

    (void)resp;
    r.name = req->username;
    TRY(root->drop_user(root->self, &pc->call, &r, &empty, st));
    px_auth_forget(pc->px->auth);
out:
    return rc;
}

int px_list_cred_users(struct px_call *pc, const PX_PB(ListCredUsersRequest) *req,
                       PX_PB(ListCredUsersResponse) *resp, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    Elanus__NameList users = ELANUS__NAME_LIST__INIT;
    int rc;

    (void)req;
    TRY(root->list_users(root->self, &pc->call, &empty, &users, st));
    resp->usernames = users.names;
    resp->n_usernames = users.n_names;
out:
    return rc;
}
