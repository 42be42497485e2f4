package wire;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import io.milvus.v2.client.ConnectConfig;
import io.milvus.v2.client.MilvusClientV2;
import io.milvus.v2.common.ConsistencyLevel;
import io.milvus.v2.common.DataType;
import io.milvus.v2.common.IndexParam;
import io.milvus.v2.exception.MilvusClientException;
import io.milvus.v2.service.collection.request.AddFieldReq;
import io.milvus.v2.service.collection.request.CreateCollectionReq;
import io.milvus.v2.service.collection.request.DescribeCollectionReq;
import io.milvus.v2.service.collection.request.DropCollectionReq;
import io.milvus.v2.service.collection.request.GetCollectionStatsReq;
import io.milvus.v2.service.collection.request.GetLoadStateReq;
import io.milvus.v2.service.collection.request.HasCollectionReq;
import io.milvus.v2.service.collection.request.ReleaseCollectionReq;
import io.milvus.v2.service.collection.response.DescribeCollectionResp;
import io.milvus.v2.service.database.request.CreateDatabaseReq;
import io.milvus.v2.service.database.request.DropDatabaseReq;
import io.milvus.v2.service.index.request.DescribeIndexReq;
import io.milvus.v2.service.partition.request.CreatePartitionReq;
import io.milvus.v2.service.partition.request.DropPartitionReq;
import io.milvus.v2.service.partition.request.ListPartitionsReq;
import io.milvus.v2.service.utility.request.AlterAliasReq;
import io.milvus.v2.service.utility.request.CreateAliasReq;
import io.milvus.v2.service.utility.request.DropAliasReq;
import io.milvus.v2.service.utility.request.FlushReq;
import io.milvus.v2.service.vector.request.AnnSearchReq;
import io.milvus.v2.service.vector.request.DeleteReq;
import io.milvus.v2.service.vector.request.GetReq;
import io.milvus.v2.service.vector.request.HybridSearchReq;
import io.milvus.v2.service.vector.request.InsertReq;
import io.milvus.v2.service.vector.request.QueryReq;
import io.milvus.v2.service.vector.request.SearchReq;
import io.milvus.v2.service.vector.request.UpsertReq;
import io.milvus.v2.service.vector.request.data.FloatVec;
import io.milvus.v2.service.vector.request.ranker.RRFRanker;
import io.milvus.v2.service.vector.response.QueryResp;
import io.milvus.v2.service.vector.response.SearchResp;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** The Java client's flows against the server at ELANUS_ADDRESS (host:port). */
class FlowTest {
    private static final int DIM = 8;
    private static final int N = 200;
    private static MilvusClientV2 client;
    private static int counter;
    private static final List<String> made = new ArrayList<>();

    @BeforeAll
    static void connect() {
        client = new MilvusClientV2(ConnectConfig.builder()
                .uri("http://" + System.getenv("ELANUS_ADDRESS")).build());
    }

    @AfterAll
    static void close() {
        for (String c : made) {
            client.dropCollection(DropCollectionReq.builder().collectionName(c).build());
        }
        client.close();
    }

    private static String name(String what) {
        String n = "java_" + what + "_" + ++counter;
        made.add(n);
        return n;
    }

    private static List<Float> vector(int seed) {
        Random r = new Random(seed);
        return IntStream.range(0, DIM).mapToObj(i -> (float) r.nextGaussian())
                .collect(Collectors.toList());
    }

    private static double l2(List<Float> a, List<Float> b) {
        return IntStream.range(0, DIM).mapToDouble(i -> Math.pow(a.get(i) - b.get(i), 2)).sum();
    }

    private static JsonObject row(int i) {
        JsonObject o = new JsonObject();
        o.addProperty("id", (long) i);
        o.addProperty("x", i % 10);
        o.addProperty("t", "t" + i);
        com.google.gson.JsonArray v = new com.google.gson.JsonArray();
        vector(i).forEach(v::add);
        o.add("vector", v);
        return o;
    }

    private static String filled(String what) {
        String n = name(what);
        CreateCollectionReq.CollectionSchema schema = client.createSchema();
        schema.setEnableDynamicField(true);
        schema.addField(AddFieldReq.builder().fieldName("id").dataType(DataType.Int64)
                .isPrimaryKey(true).autoID(false).build());
        schema.addField(AddFieldReq.builder().fieldName("x").dataType(DataType.Int32).build());
        schema.addField(AddFieldReq.builder().fieldName("t").dataType(DataType.VarChar)
                .maxLength(32).isNullable(true).build());
        schema.addField(AddFieldReq.builder().fieldName("vector").dataType(DataType.FloatVector)
                .dimension(DIM).build());
        client.createCollection(CreateCollectionReq.builder().collectionName(n)
                .collectionSchema(schema).consistencyLevel(ConsistencyLevel.STRONG)
                .indexParams(Collections.singletonList(IndexParam.builder().fieldName("vector")
                        .indexType(IndexParam.IndexType.FLAT)
                        .metricType(IndexParam.MetricType.L2).build()))
                .build());
        assertEquals(N, client.insert(InsertReq.builder().collectionName(n)
                .data(IntStream.range(0, N).mapToObj(FlowTest::row).collect(Collectors.toList()))
                .build()).getInsertCnt());
        return n;
    }

    private static List<Long> ids(QueryResp r) {
        return r.getQueryResults().stream().map(q -> (Long) q.getEntity().get("id"))
                .collect(Collectors.toList());
    }

    private static QueryResp query(String n, String filter, String... fields) {
        return client.query(QueryReq.builder().collectionName(n).filter(filter)
                .outputFields(Arrays.asList(fields)).build());
    }

    @Test
    void versionIsAnswered() {
        assertTrue(client.getServerVersion().matches("v?\\d+\\.\\d+\\.\\d+.*"));
        assertTrue(client.listDatabases().getDatabaseNames().contains("default"));
    }

    @Test
    void collectionIsCreatedDescribedAndDropped() {
        String n = filled("ddl");
        assertTrue(client.hasCollection(HasCollectionReq.builder().collectionName(n).build()));
        DescribeCollectionResp d = client.describeCollection(
                DescribeCollectionReq.builder().collectionName(n).build());
        assertEquals(Arrays.asList("id", "x", "t", "vector"), d.getFieldNames());
        assertTrue(d.getEnableDynamicField());
        assertEquals("id", d.getPrimaryFieldName());
        assertTrue(client.listCollections().getCollectionNames().contains(n));
        assertTrue(client.getLoadState(GetLoadStateReq.builder().collectionName(n).build()));
        assertNotNull(client.describeIndex(DescribeIndexReq.builder().collectionName(n)
                .fieldName("vector").build()));
        client.dropCollection(DropCollectionReq.builder().collectionName(n).build());
        assertFalse(client.hasCollection(HasCollectionReq.builder().collectionName(n).build()));
    }

    @Test
    void quickCollectionTakesRowsAndAnswersSearches() {
        String n = name("quick");
        client.createCollection(CreateCollectionReq.builder().collectionName(n).dimension(DIM)
                .metricType("L2").consistencyLevel(ConsistencyLevel.STRONG).build());
        List<JsonObject> rows = IntStream.range(0, 5).mapToObj(i -> {
            JsonObject o = row(i);
            o.addProperty("colour", i == 2 ? "red" : "blue");
            return o;
        }).collect(Collectors.toList());
        client.insert(InsertReq.builder().collectionName(n).data(rows).build());
        SearchResp s = client.search(SearchReq.builder().collectionName(n)
                .data(Collections.singletonList(new FloatVec(vector(2)))).limit(1)
                .outputFields(Collections.singletonList("colour")).build());
        SearchResp.SearchResult hit = s.getSearchResults().get(0).get(0);
        assertEquals(2L, hit.getId());
        assertEquals("red", hit.getEntity().get("colour"));
    }

    @Test
    void searchAnswersTheNearest() {
        String n = filled("search");
        List<Float> q = vector(1001);
        List<Long> want = IntStream.range(0, N).boxed().filter(i -> i % 10 < 5)
                .sorted((a, b) -> Double.compare(l2(vector(a), q), l2(vector(b), q)))
                .map(Integer::longValue).collect(Collectors.toList());
        for (int offset : new int[] {0, 5}) {
            SearchResp s = client.search(SearchReq.builder().collectionName(n).annsField("vector")
                    .data(Collections.singletonList(new FloatVec(q))).filter("x < 5").limit(10)
                    .offset(offset).outputFields(Arrays.asList("t", "x")).build());
            List<SearchResp.SearchResult> hits = s.getSearchResults().get(0);
            assertEquals(want.subList(offset, offset + 10), hits.stream()
                    .map(h -> (Long) h.getId()).collect(Collectors.toList()));
            for (SearchResp.SearchResult h : hits) {
                assertEquals("t" + h.getId(), h.getEntity().get("t"));
                assertEquals(l2(vector(((Long) h.getId()).intValue()), q), h.getScore(), 1e-3);
            }
        }
    }

    @Test
    void queryGetAndCountAnswerTheirRows() {
        String n = filled("query");
        assertEquals(IntStream.range(0, N).filter(i -> i % 10 == 3 && i > 100).boxed()
                .map(Integer::longValue).collect(Collectors.toList()),
                ids(query(n, "x == 3 and id > 100", "id")));
        assertEquals(2, client.get(GetReq.builder().collectionName(n)
                .ids(Arrays.asList(5L, 6L, 9999L)).build()).getGetResults().size());
        assertEquals((long) N, query(n, "", "count(*)").getQueryResults().get(0).getEntity()
                .get("count(*)"));
    }

    @Test
    void deleteAndUpsertChangeRows() {
        String n = filled("write");
        client.delete(DeleteReq.builder().collectionName(n)
                .ids(Arrays.asList(1L, 2L)).build());
        client.delete(DeleteReq.builder().collectionName(n).filter("x == 9").build());
        JsonObject changed = row(3);
        changed.addProperty("t", "changed");
        JsonObject fresh = row(1000);
        fresh.add("t", com.google.gson.JsonNull.INSTANCE);
        assertEquals(2, client.upsert(UpsertReq.builder().collectionName(n)
                .data(Arrays.asList(changed, fresh)).build()).getUpsertCnt());
        assertEquals(N - 2L - 20L + 1L, query(n, "", "count(*)").getQueryResults().get(0)
                .getEntity().get("count(*)"));
        QueryResp r = query(n, "id in [1, 3, 1000]", "id", "t");
        assertEquals(Arrays.asList(3L, 1000L), ids(r));
        assertEquals("changed", r.getQueryResults().get(0).getEntity().get("t"));
    }

    @Test
    void flushPartitionsAndAliasesAreServed() {
        String n = filled("admin");
        client.flush(FlushReq.builder().collectionNames(Collections.singletonList(n)).build());
        assertEquals((long) N, client.getCollectionStats(GetCollectionStatsReq.builder()
                .collectionName(n).build()).getNumOfEntities());
        client.createPartition(CreatePartitionReq.builder().collectionName(n).partitionName("p")
                .build());
        assertEquals(2, client.listPartitions(ListPartitionsReq.builder().collectionName(n)
                .build()).size());
        client.createAlias(CreateAliasReq.builder().collectionName(n).alias(n + "_a").build());
        assertEquals((long) N, query(n + "_a", "", "count(*)").getQueryResults().get(0)
                .getEntity().get("count(*)"));
        client.alterAlias(AlterAliasReq.builder().collectionName(n).alias(n + "_a").build());
        client.dropAlias(DropAliasReq.builder().alias(n + "_a").build());
        client.releaseCollection(ReleaseCollectionReq.builder().collectionName(n).build());
        assertFalse(client.getLoadState(GetLoadStateReq.builder().collectionName(n).build()));
        client.dropPartition(DropPartitionReq.builder().collectionName(n).partitionName("p")
                .build());
    }

    @Test
    void hybridSearchFusesTwoRankings() {
        String n = filled("hybrid");
        List<AnnSearchReq> reqs = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            reqs.add(AnnSearchReq.builder().vectorFieldName("vector").topK(10)
                    .vectors(Collections.singletonList(new FloatVec(vector(42)))).build());
        }
        SearchResp s = client.hybridSearch(HybridSearchReq.builder().collectionName(n)
                .searchRequests(reqs).ranker(new RRFRanker(60)).topK(3)
                .consistencyLevel(ConsistencyLevel.STRONG).build());
        SearchResp.SearchResult hit = s.getSearchResults().get(0).get(0);
        assertEquals(42L, hit.getId());
        assertEquals(2.0 / 61, hit.getScore(), 1e-5);
    }

    @Test
    void databasesAreApart() {
        String db = "java_db";
        client.createDatabase(CreateDatabaseReq.builder().databaseName(db).build());
        MilvusClientV2 other = new MilvusClientV2(ConnectConfig.builder()
                .uri("http://" + System.getenv("ELANUS_ADDRESS")).dbName(db).build());
        assertTrue(other.listCollections().getCollectionNames().isEmpty());
        other.close();
        client.dropDatabase(DropDatabaseReq.builder().databaseName(db).build());
        assertFalse(client.listDatabases().getDatabaseNames().contains(db));
    }

    @Test
    void errorsHaveWords() {
        String n = filled("errors");
        MilvusClientException e = assertThrows(MilvusClientException.class,
                () -> query(n, "x ==", "id"));
        assertTrue(e.getMessage().contains("cannot parse expression"), e.getMessage());
        assertThrows(MilvusClientException.class, () -> query("java_nobody", "id > 0", "id"));
        assertThrows(MilvusClientException.class, () -> client.search(SearchReq.builder()
                .collectionName(n).limit(1)
                .data(Collections.singletonList(new FloatVec(Arrays.asList(1f, 2f)))).build()));
    }
}
