/*
 * errors.c - the API's error numbers and the words that belong to each.
 *
 * Clients compare these words, so they are the API's own, spelling included. Rows are sorted by
 * number; err_text() searches them by halves.
 */
#include "schema/errors.h"

struct err_row {
    int code;
    const char *text;
};

static const struct err_row rows[] = {
    {1, "service not ready"},
    {2, "service unavailable"},
    {3, "memory limit exceeded"},
    {4, "too many concurrent requests, queue is full"},
    {5, "service internal error"},
    {6, "cross cluster routing"},
    {7, "disk limit exceeded"},
    {8, "rate limit exceeded"},
    {9, "quota exceeded"},
    {10, "service unimplemented"},
    {11, "time tick long delay"},
    {12, "service resource insufficient"},
    {100, "collection not found"},
    {101, "collection not loaded"},
    {102, "exceeded the limit number of collections"},
    {103, "collection not fully loaded"},
    {104, "collection already loaded"},
    {105, "illegal collection schema"},
    {106, "collection on recovering"},
    {107, "vector clustering key not allowed"},
    {108, "can't operate on the collection under standby mode"},
    {109, "collection schema mismatch"},
    {200, "partition not found"},
    {201, "partition not loaded"},
    {202, "partition not fully loaded"},
    {250, "general capacity exceeded"},
    {300, "resource group not found"},
    {301, "resource group already exist, but create with different config"},
    {302, "resource group num reach limit"},
    {303, "resource group illegal config"},
    {304, "resource group node not enough"},
    {305, "resource group service available"},
    {400, "replica not found"},
    {401, "replica not available"},
    {500, "channel not found"},
    {501, "channel lacks"},
    {502, "channel reduplicates"},
    {503, "channel not available"},
    {504, "channel checkpoint exceed max lag"},
    {600, "segment not found"},
    {601, "segment not loaded"},
    {602, "segment lacks"},
    {603, "segment reduplicates"},
    {604, "segment load failed"},
    {700, "index not found"},
    {701, "index type not supported"},
    {702, "index duplicates"},
    {703, "task duplicates"},
    {800, "database not found"},
    {801, "exceeded the limit number of database"},
    {802, "invalid database name"},
    {901, "node not found"},
    {902, "node offline"},
    {903, "node lacks"},
    {904, "node not match"},
    {905, "node not available"},
    {906, "node state unexpected"},
    {1000, "key not found"},
    {1001, "IO failed"},
    {1002, "unexpected EOF"},
    {1100, "invalid parameter"},
    {1101, "missing parameter"},
    {1102, "parameter too large"},
    {1200, "metric not found"},
    {1300, "topic not found"},
    {1301, "topic not empty"},
    {1302, "message queue internal error"},
    {1303, "deny to write the message to mq"},
    {1400, "not authenticated"},
    {1401, "privilege not permitted"},
    {1402, "invalid privilege group name"},
    {1600, "alias not found"},
    {1601, "alias and collection name conflict"},
    {1602, "alias already exist"},
    {1603, "collection id of alias not found"},
    {1700, "field not found"},
    {1701, "field name invalid"},
    {1800, "user hasn't authenticated"},
    {1801, "can only accept json format request"},
    {1802, "missing required parameters"},
    {1803, "fail to marshal collection schema"},
    {1804, "fail to deal the insert data"},
    {1805, "fail to parse search result"},
    {1806, "please check the primary key and its' type can only in [int, string]"},
    {1807, "request is rejected by limiter"},
    {1900, "deny to use the replicate message in the normal instance"},
    {1901, "invalid replicate msg bytes"},
    {1902, "no assign segment id"},
    {1903, "invalid stream object"},
    {2000, "segcore error"},
    {2001, "segcore unsupported error"},
    {2002, "segcore pretend finished"},
    {2037, "segcore folly other exception"},
    {2038, "segcore Future was canceled"},
    {2039, "segcore out of range"},
    {2040, "segcore GCP native error"},
    {2099, "knowhere error"},
    {2100, "importing data failed"},
    {2200, "inconsistent requery result"},
    {2300, "fail to read delta log"},
    {2301, "compaction plan illegal"},
    {2302, "compaction plan conflict"},
    {2303, "milvus cluster not support clustering compaction"},
    {2304, "collection not support clustering compaction"},
    {2305, "collection is compacting"},
    {2306, "vector field clustering compaction is not supported"},
    {2307, "fail to submit task"},
    {2308, "fail to update meta in clustering compaction"},
    {2309, "fail to get collection in compaction"},
    {2310, "compaction result not found"},
    {2311, "analyze task not found"},
    {2312, "fail to build CompactionRequest"},
    {2313, "fail to get compaction plan"},
    {2314, "illegal compaction results"},
    {2315, "duplicated compaction task"},
    {2316, "fail to clean partition Stats"},
    {2401, "datanode slot exhausted"},
    {3000, "unsupported operation"},
    {3001, "old session exists"},
    {65535, "unexpected error"},
};

const char *err_text(int code)
{
    size_t from = 0, to = ARRAY_LEN(rows);
    while (from < to) {
        size_t mid = from + (to - from) / 2;
        if (rows[mid].code == code) {
            return rows[mid].text;
        }
        if (rows[mid].code < code) {
            from = mid + 1;
        } else {
            to = mid;
        }
    }
    return NULL;
}
