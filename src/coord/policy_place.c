/*
 * policy_place.c - segments go to the query node with the fewest rows.
 *
 * Greedy in the order given: with many segments of like size the nodes end up within one segment
 * of each other, and a segment once placed does not move because another was added.
 */
#include "coord/policy.h"

void policy_place(struct policy_node *nodes, size_t nnodes, const int64_t *segment_rows, size_t n,
                  int64_t *ret_node_ids)
{
    for (size_t i = 0; i < n; i++) {
        size_t best = 0;
        for (size_t j = 1; j < nnodes; j++) {
            if (nodes[j].rows < nodes[best].rows ||
                (nodes[j].rows == nodes[best].rows && nodes[j].id < nodes[best].id)) {
                best = j;
            }
        }
        nodes[best].rows += segment_rows[i];
        ret_node_ids[i] = nodes[best].id;
    }
}
