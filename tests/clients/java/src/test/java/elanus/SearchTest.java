package elanus;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import io.milvus.orm.iterator.QueryIterator;
import io.milvus.orm.iterator.SearchIterator;
import io.milvus.orm.iterator.SearchIteratorV2;
import io.milvus.response.QueryResultsWrapper;
import io.milvus.v2.client.MilvusClientV2;
import io.milvus.v2.common.ConsistencyLevel;
import io.milvus.v2.common.DataType;
import io.milvus.v2.common.IndexParam;
import io.milvus.v2.service.collection.request.AddFieldReq;
import io.milvus.v2.service.collection.request.CreateCollectionReq;
import io.milvus.v2.service.collection.request.DropCollectionReq;
import io.milvus.v2.service.collection.request.LoadCollectionReq;
import io.milvus.v2.service.collection.request.ReleaseCollectionReq;
import io.milvus.v2.service.utility.request.FlushReq;
import io.milvus.v2.service.vector.request.AnnSearchReq;
import io.milvus.v2.service.vector.request.HybridSearchReq;
import io.milvus.v2.service.vector.request.InsertReq;
import io.milvus.v2.service.vector.request.QueryIteratorReq;
import io.milvus.v2.service.vector.request.SearchIteratorReq;
import io.milvus.v2.service.vector.request.SearchIteratorReqV2;
import io.milvus.v2.service.vector.request.SearchReq;
import io.milvus.v2.service.vector.request.data.FloatVec;
import io.milvus.v2.service.vector.request.ranker.RRFRanker;
import io.milvus.v2.service.vector.request.ranker.WeightedRanker;
import io.milvus.v2.service.vector.response.SearchResp;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Searches of every kind, hybrid searches and iterators, against what is computed here. */
class SearchTest extends Fixture {
    private static final List<Row> ROWS = rows(0, 200, 1);
    private static String name;

    @BeforeAll
    static void fill() {
        name = fresh("search");
        make(client, name, ROWS);
    }

    @AfterAll
    static void empty() {
        MilvusClientV2 last = connect(null);
        last.dropCollection(DropCollectionReq.builder().collectionName(name).build());
        last.close();
    }

    private static SearchReq.SearchReqBuilder search(float[] query, int limit) {
        return SearchReq.builder().collectionName(name).annsField("vector").data(List.of(asked(query))).topK(limit);
    }

    private static List<SearchResp.SearchResult> ask(SearchReq.SearchReqBuilder req) {
        return client.search(req.build()).getSearchResults().get(0);
    }

    @Test
    void aSearchFindsTheNearestRowsWithTheirDistances() {
        float[] query = vector(77);
        List<SearchResp.SearchResult> found = ask(search(query, 10).outputFields(List.of("colour", "price", "vector")));
        assertEquals(nearest(ROWS, r -> true, query, 10), hits(found));
        for (SearchResp.SearchResult hit : found) {
            Row row = ROWS.get(((Long) hit.getId()).intValue());
            assertEquals(distance(row.vector, query), hit.getScore(), 1e-4);
            assertEquals(row.colour, hit.getEntity().get("colour"));
            assertEquals(row.price, hit.getEntity().get("price"));
            assertEquals(row.vector[7], (Float) ((List<?>) hit.getEntity().get("vector")).get(7));
        }
    }

    @Test
    void aFilterDecidesWhichRowsAreCandidates() {
        float[] query = vector(78);
        List<Long> wanted = nearest(ROWS, r -> !r.colour.equals("green") && r.price > 20, query, 7);
        assertEquals(wanted, hits(ask(search(query, 7).filter("colour in ['red', 'blue'] and price > 20"))));
        assertEquals(wanted, hits(ask(search(query, 7).filter("colour in {c} and price > {p}")
            .filterTemplateValues(Map.of("c", List.of("red", "blue"), "p", 20)))));
    }

    @Test
    void manyVectorsAreSearchedAtOnce() {
        List<List<SearchResp.SearchResult>> found = client.search(SearchReq.builder().collectionName(name)
            .data(List.of(asked(vector(1)), asked(vector(2)), asked(vector(3)))).topK(4).build()).getSearchResults();
        assertEquals(3, found.size());
        for (int i = 0; i < 3; i++) {
            assertEquals(nearest(ROWS, r -> true, vector(i + 1), 4), hits(found.get(i)));
        }
    }

    @Test
    void offsetsAndRangesOfDistances() {
        float[] query = vector(79);
        List<Long> wanted = nearest(ROWS, r -> true, query, 1000);
        assertEquals(wanted.subList(5, 10), hits(ask(search(query, 5).offset(5))));
        assertEquals(wanted, hits(ask(search(query, 1000))));
        assertEquals(nearest(ROWS, r -> distance(r.vector, query) < 0.6, query, 1000),
            hits(ask(search(query, 1000).searchParams(Map.of("radius", 0.6, "range_filter", 0)))));
    }

    @Test
    void oneHitAGroup() {
        float[] query = vector(80);
        List<SearchResp.SearchResult> found = ask(search(query, 3).groupByFieldName("colour")
            .outputFields(List.of("colour")));
        List<Row> best = new ArrayList<>();
        for (String colour : List.of("red", "green", "blue")) {
            best.add(ROWS.get(nearest(ROWS, r -> r.colour.equals(colour), query, 1).get(0).intValue()));
        }
        assertEquals(nearest(best, r -> true, query, 3), hits(found));
    }

    @Test
    void wrongSearchesAreRefused() {
        refused("dim", () -> ask(search(new float[] {1, 2, 3}, 3)));
        refused("expr|pars", () -> ask(search(vector(1), 3).filter("colour ==")));
        refused("nothing", () -> ask(search(vector(1), 3).filter("nothing == 1")));
        refused("nothing", () -> ask(search(vector(1), 3).outputFields(List.of("nothing"))));
        refused("metric", () -> ask(search(vector(1), 3).metricType(IndexParam.MetricType.IP)));
    }

    @Test
    void aQueryIteratorGivesEachRowOnce() {
        QueryIterator it = client.queryIterator(QueryIteratorReq.builder().collectionName(name).expr("price < 80")
            .batchSize(33).outputFields(List.of("id", "price")).build());
        List<Long> seen = new ArrayList<>();
        for (List<QueryResultsWrapper.RowRecord> page = it.next(); !page.isEmpty(); page = it.next()) {
            assertTrue(page.size() <= 33);
            page.forEach(r -> seen.add((Long) r.get("id")));
        }
        it.close();
        assertEquals(ROWS.stream().filter(r -> r.price < 80).map(r -> r.id).collect(Collectors.toList()), seen);
    }

    @Test
    void aQueryIteratorStopsAtItsLimitAndStartsAtItsOffset() {
        QueryIterator it = client.queryIterator(QueryIteratorReq.builder().collectionName(name).expr("id >= 0")
            .batchSize(7).limit(20).offset(3).outputFields(List.of("id")).build());
        List<Long> seen = new ArrayList<>();
        for (List<QueryResultsWrapper.RowRecord> page = it.next(); !page.isEmpty(); page = it.next()) {
            page.forEach(r -> seen.add((Long) r.get("id")));
        }
        it.close();
        assertEquals(ROWS.subList(3, 23).stream().map(r -> r.id).collect(Collectors.toList()), seen);
    }

    @Test
    void aSearchIteratorGivesTheWholeRanking() {
        float[] query = vector(81);
        SearchIterator it = client.searchIterator(SearchIteratorReq.builder().collectionName(name)
            .vectorFieldName("vector").vectors(List.of(asked(query))).metricType(IndexParam.MetricType.L2)
            .batchSize(30L).topK(150).expr("id < 180").outputFields(List.of("id", "colour")).params("{}").build());
        List<Long> seen = new ArrayList<>();
        for (List<QueryResultsWrapper.RowRecord> page = it.next(); !page.isEmpty(); page = it.next()) {
            page.forEach(r -> seen.add((Long) r.get("id")));
        }
        it.close();
        assertEquals(nearest(ROWS, r -> r.id < 180, query, 150), seen);
    }

    @Test
    void aSearchIteratorOfTheSecondKindGivesTheWholeRanking() {
        float[] query = vector(82);
        SearchIteratorV2 it = client.searchIteratorV2(SearchIteratorReqV2.builder().collectionName(name)
            .vectorFieldName("vector").vectors(List.of(asked(query))).metricType(IndexParam.MetricType.L2)
            .batchSize(30L).limit(150).filter("id < 180").outputFields(List.of("colour")).build());
        List<Long> seen = new ArrayList<>();
        for (List<SearchResp.SearchResult> page = it.next(); !page.isEmpty(); page = it.next()) {
            seen.addAll(hits(page));
        }
        it.close();
        assertEquals(nearest(ROWS, r -> r.id < 180, query, 150), seen);
    }

    @Test
    void theAnswersAreTheSameAfterAFlushAndAReload() {
        String other = fresh("reload");
        make(client, other, ROWS);
        client.flush(FlushReq.builder().collectionNames(List.of(other)).build());
        client.releaseCollection(ReleaseCollectionReq.builder().collectionName(other).build());
        client.loadCollection(LoadCollectionReq.builder().collectionName(other).build());
        float[] query = vector(83);
        assertEquals(nearest(ROWS, r -> true, query, 10), hits(client.search(SearchReq.builder().collectionName(other)
            .data(List.of(asked(query))).topK(10).build()).getSearchResults().get(0)));
        drop(other);
    }

    @Test
    void aHybridSearchFusesTwoRankings() {
        String both = fresh("hybrid");
        CreateCollectionReq.CollectionSchema schema = MilvusClientV2.CreateSchema();
        schema.addField(AddFieldReq.builder().fieldName("id").dataType(DataType.Int64).isPrimaryKey(true).build());
        schema.addField(AddFieldReq.builder().fieldName("first").dataType(DataType.FloatVector).dimension(DIM).build());
        schema.addField(AddFieldReq.builder().fieldName("second").dataType(DataType.FloatVector).dimension(4).build());
        client.createCollection(CreateCollectionReq.builder().collectionName(both).collectionSchema(schema)
            .indexParams(List.of(index("first"), index("second"))).consistencyLevel(ConsistencyLevel.STRONG).build());
        List<Row> first = rows(0, 60, 11);
        Random random = new Random(12);
        List<Row> second = new ArrayList<>();
        List<JsonObject> data = new ArrayList<>();
        for (Row r : first) {
            second.add(new Row(r.id, vector(random, 4), "", 0));
            JsonObject o = new JsonObject();
            o.addProperty("id", r.id);
            o.add("first", GSON.toJsonTree(r.vector));
            o.add("second", GSON.toJsonTree(second.get(second.size() - 1).vector));
            data.add(o);
        }
        client.insert(InsertReq.builder().collectionName(both).data(data).build());
        float[] q1 = vector(13);
        float[] q2 = vector(new Random(14), 4);
        List<AnnSearchReq> parts = List.of(
            AnnSearchReq.builder().vectorFieldName("first").vectors(List.of(new FloatVec(q1))).topK(10)
                .params("{\"nprobe\": 8}").build(),
            AnnSearchReq.builder().vectorFieldName("second").vectors(List.of(new FloatVec(q2))).topK(10).build());

        Map<Long, Double> score = new HashMap<>();
        for (List<Long> ranking : List.of(nearest(first, r -> true, q1, 10), nearest(second, r -> true, q2, 10))) {
            for (int i = 0; i < ranking.size(); i++) {
                score.merge(ranking.get(i), 1.0 / (60 + i + 1), Double::sum);
            }
        }
        List<Double> wanted = score.values().stream().sorted((a, b) -> Double.compare(b, a)).limit(6)
            .collect(Collectors.toList());
        List<SearchResp.SearchResult> fused = client.hybridSearch(HybridSearchReq.builder().collectionName(both)
            .searchRequests(parts).ranker(RRFRanker.builder().k(60).build()).topK(6).outFields(List.of("id"))
            .build()).getSearchResults().get(0);
        assertEquals(6, fused.size());
        for (int i = 0; i < 6; i++) {
            assertEquals(wanted.get(i), fused.get(i).getScore(), 1e-6);
            assertEquals(score.get((Long) fused.get(i).getId()), fused.get(i).getScore(), 1e-6);
        }
        List<SearchResp.SearchResult> weighted = client.hybridSearch(HybridSearchReq.builder().collectionName(both)
            .searchRequests(parts).ranker(WeightedRanker.builder().weights(List.of(1f, 0f)).build()).topK(3)
            .build()).getSearchResults().get(0);
        assertEquals(nearest(first, r -> true, q1, 3), hits(weighted));
        drop(both);
    }
}
