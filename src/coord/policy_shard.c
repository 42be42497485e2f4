/*
 * policy_shard.c - which streaming node owns a shard, and which channel a new shard writes to.
 *
 * A shard stays with its owner, since the owner's log is at hand there; it moves only when the
 * owner is not there any more.
 */
#include "coord/policy.h"

bool policy_takes_shard(int64_t owner, int64_t registering, const int64_t *live, size_t nlive)
{
    if (owner == registering) {
        return true;
    }
    for (size_t i = 0; i < nlive; i++) {
        if (live[i] == owner) {
            return false;
        }
    }
    return true;
}

size_t policy_pchannel(const size_t *nshards, size_t nchannels)
{
    size_t best = 0;

    for (size_t i = 1; i < nchannels; i++) {
        if (nshards[i] < nshards[best]) {
            best = i;
        }
    }
    return best;
}
