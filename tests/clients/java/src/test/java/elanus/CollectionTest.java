package elanus;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import io.milvus.v2.client.MilvusClientV2;
import io.milvus.v2.common.ConsistencyLevel;
import io.milvus.v2.common.DataType;
import io.milvus.v2.common.IndexBuildState;
import io.milvus.v2.common.IndexParam;
import io.milvus.v2.service.collection.request.AddCollectionFieldReq;
import io.milvus.v2.service.collection.request.AddFieldReq;
import io.milvus.v2.service.collection.request.AlterCollectionPropertiesReq;
import io.milvus.v2.service.collection.request.BatchDescribeCollectionReq;
import io.milvus.v2.service.collection.request.CreateCollectionReq;
import io.milvus.v2.service.collection.request.DescribeCollectionReq;
import io.milvus.v2.service.collection.request.DropCollectionPropertiesReq;
import io.milvus.v2.service.collection.request.GetCollectionStatsReq;
import io.milvus.v2.service.collection.request.GetLoadStateReq;
import io.milvus.v2.service.collection.request.HasCollectionReq;
import io.milvus.v2.service.collection.request.LoadCollectionReq;
import io.milvus.v2.service.collection.request.RefreshLoadReq;
import io.milvus.v2.service.collection.request.ReleaseCollectionReq;
import io.milvus.v2.service.collection.request.RenameCollectionReq;
import io.milvus.v2.service.collection.response.DescribeCollectionResp;
import io.milvus.v2.service.index.request.CreateIndexReq;
import io.milvus.v2.service.index.request.DescribeIndexReq;
import io.milvus.v2.service.index.request.DropIndexReq;
import io.milvus.v2.service.index.request.ListIndexesReq;
import io.milvus.v2.service.index.response.DescribeIndexResp;
import io.milvus.v2.service.partition.request.CreatePartitionReq;
import io.milvus.v2.service.partition.request.DropPartitionReq;
import io.milvus.v2.service.partition.request.GetPartitionStatsReq;
import io.milvus.v2.service.partition.request.HasPartitionReq;
import io.milvus.v2.service.partition.request.ListPartitionsReq;
import io.milvus.v2.service.partition.request.LoadPartitionsReq;
import io.milvus.v2.service.partition.request.ReleasePartitionsReq;
import io.milvus.v2.service.utility.request.AlterAliasReq;
import io.milvus.v2.service.utility.request.CreateAliasReq;
import io.milvus.v2.service.utility.request.DescribeAliasReq;
import io.milvus.v2.service.utility.request.DropAliasReq;
import io.milvus.v2.service.utility.request.FlushReq;
import io.milvus.v2.service.utility.request.GetPersistentSegmentInfoReq;
import io.milvus.v2.service.utility.request.ListAliasesReq;
import io.milvus.v2.service.vector.request.InsertReq;
import io.milvus.v2.service.vector.request.QueryReq;
import io.milvus.v2.service.vector.request.SearchReq;
import io.milvus.v2.service.vector.response.SearchResp;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/** Collections as such: definitions, indexes, load states, aliases, partitions, statistics. */
class CollectionTest extends Fixture {
    private static boolean has(String name) {
        return client.hasCollection(HasCollectionReq.builder().collectionName(name).build());
    }

    private static DescribeCollectionResp describe(String name) {
        return client.describeCollection(DescribeCollectionReq.builder().collectionName(name).build());
    }

    private static boolean loaded(String name) {
        return client.getLoadState(GetLoadStateReq.builder().collectionName(name).build());
    }

    private static void flush(String name) {
        client.flush(FlushReq.builder().collectionNames(List.of(name)).build());
    }

    private static double cosine(float[] a, float[] b) {
        double ab = 0;
        double aa = 0;
        double bb = 0;
        for (int i = 0; i < a.length; i++) {
            ab += (double) a[i] * b[i];
            aa += (double) a[i] * a[i];
            bb += (double) b[i] * b[i];
        }
        return ab / Math.sqrt(aa * bb);
    }

    @Test
    void aQuickCollectionIsReadyAtOnce() {
        String name = fresh("quick");
        client.createCollection(CreateCollectionReq.builder().collectionName(name).dimension(5).build());
        assertTrue(loaded(name));
        Random random = new Random(3);
        List<float[]> vectors = new ArrayList<>();
        List<JsonObject> data = new ArrayList<>();
        for (int i = 0; i < 50; i++) {
            vectors.add(vector(random, 5));
            JsonObject o = new JsonObject();
            o.addProperty("id", i);
            o.add("vector", GSON.toJsonTree(vectors.get(i)));
            o.addProperty("colour", i % 2 == 1 ? "odd" : "even");
            data.add(o);
        }
        assertEquals(50, client.insert(InsertReq.builder().collectionName(name).data(data).build()).getInsertCnt());
        float[] query = vectors.get(7);
        SearchResp found = client.search(SearchReq.builder().collectionName(name).data(List.of(asked(query))).topK(5)
            .filter("colour == \"odd\"").outputFields(List.of("colour")).consistencyLevel(ConsistencyLevel.STRONG)
            .build());
        List<Long> wanted = new ArrayList<>();
        for (long i = 1; i < 50; i += 2) {
            wanted.add(i);
        }
        wanted.sort((a, b) -> Double.compare(cosine(vectors.get(b.intValue()), query),
            cosine(vectors.get(a.intValue()), query)));
        List<SearchResp.SearchResult> results = found.getSearchResults().get(0);
        assertEquals(wanted.subList(0, 5), hits(results));
        assertEquals(1f, results.get(0).getScore(), 1e-5f);
        assertTrue(results.stream().allMatch(r -> "odd".equals(r.getEntity().get("colour"))));
        drop(name);
    }

    @Test
    void aSchemaIsDescribedAsItWasGiven() {
        String name = fresh("schema");
        CreateCollectionReq.CollectionSchema schema = MilvusClientV2.CreateSchema();
        schema.setEnableDynamicField(true);
        schema.addField(AddFieldReq.builder().fieldName("pk").dataType(DataType.VarChar).maxLength(64)
            .isPrimaryKey(true).description("key").build());
        schema.addField(AddFieldReq.builder().fieldName("vector").dataType(DataType.FloatVector).dimension(DIM).build());
        schema.addField(AddFieldReq.builder().fieldName("f").dataType(DataType.Float).isNullable(true).build());
        schema.addField(AddFieldReq.builder().fieldName("s").dataType(DataType.VarChar).maxLength(20)
            .defaultValue("none").build());
        schema.addField(AddFieldReq.builder().fieldName("n").dataType(DataType.Int16).defaultValue((short) 3).build());
        schema.addField(field("j", DataType.JSON));
        schema.addField(AddFieldReq.builder().fieldName("a").dataType(DataType.Array).elementType(DataType.Int64)
            .maxCapacity(9).build());
        client.createCollection(CreateCollectionReq.builder().collectionName(name).description("every kind")
            .collectionSchema(schema).numShards(2).consistencyLevel(ConsistencyLevel.SESSION)
            .property("collection.ttl.seconds", "7200").build());
        DescribeCollectionResp d = describe(name);
        assertEquals(name, d.getCollectionName());
        assertEquals("default", d.getDatabaseName());
        assertEquals("every kind", d.getDescription());
        assertEquals("pk", d.getPrimaryFieldName());
        assertEquals(List.of("vector"), d.getVectorFieldNames());
        assertEquals(List.of("pk", "vector", "f", "s", "n", "j", "a"), d.getFieldNames());
        assertEquals(2, d.getShardsNum());
        assertEquals(ConsistencyLevel.SESSION, d.getConsistencyLevel());
        assertEquals("7200", d.getProperties().get("collection.ttl.seconds"));
        assertTrue(d.getEnableDynamicField());
        assertFalse(d.getAutoID());
        CreateCollectionReq.CollectionSchema back = d.getCollectionSchema();
        assertEquals("key", back.getField("pk").getDescription());
        assertEquals(64, back.getField("pk").getMaxLength());
        assertEquals(DIM, back.getField("vector").getDimension());
        assertTrue(back.getField("f").getIsNullable());
        assertEquals("none", back.getField("s").getDefaultValue());
        assertEquals(3, ((Number) back.getField("n").getDefaultValue()).intValue());
        assertEquals(DataType.Int64, back.getField("a").getElementType());
        assertEquals(9, back.getField("a").getMaxCapacity());
        drop(name);
    }

    @Test
    void hasListRenameDrop() {
        String before = fresh("old");
        String after = fresh("new");
        make(client, before, rows(0, 3, 1));
        client.renameCollection(RenameCollectionReq.builder().collectionName(before).newCollectionName(after).build());
        assertFalse(has(before));
        assertTrue(has(after));
        List<String> listed = client.listCollections().getCollectionNames();
        assertTrue(listed.contains(after) && !listed.contains(before));
        assertEquals(3, count(client, after, ""));
        drop(after);
        assertFalse(has(after));
        drop(after);
    }

    @Test
    void manyCollectionsAreDescribedInOneRequest() {
        List<String> both = List.of(fresh("one"), fresh("two"));
        both.forEach(name -> make(client, name, List.of()));
        List<DescribeCollectionResp> d = client.batchDescribeCollection(
            BatchDescribeCollectionReq.builder().collectionNames(both).build());
        assertEquals(new HashSet<>(both),
            d.stream().map(DescribeCollectionResp::getCollectionName).collect(Collectors.toSet()));
        List<DescribeCollectionResp> byId = client.batchDescribeCollection(BatchDescribeCollectionReq.builder()
            .collectionIds(List.of(d.get(1).getCollectionID())).build());
        assertEquals(d.get(1).getCollectionName(), byId.get(0).getCollectionName());
        drop(both.toArray(new String[0]));
    }

    @Test
    void indexesAreCreatedDescribedListedDropped() {
        String name = fresh("index");
        client.createCollection(CreateCollectionReq.builder().collectionName(name).collectionSchema(simpleSchema())
            .build());
        refused("index", () -> client.loadCollection(LoadCollectionReq.builder().collectionName(name).build()));
        client.createIndex(CreateIndexReq.builder().collectionName(name).indexParams(List.of(
            IndexParam.builder().fieldName("vector").indexName("of_vector").indexType(IndexParam.IndexType.HNSW)
                .metricType(IndexParam.MetricType.IP).extraParams(Map.of("M", 16, "efConstruction", 100)).build(),
            IndexParam.builder().fieldName("colour").indexName("of_colour")
                .indexType(IndexParam.IndexType.INVERTED).build())).build());
        assertEquals(Set.of("of_vector", "of_colour"),
            new HashSet<>(client.listIndexes(ListIndexesReq.builder().collectionName(name).build())));
        assertEquals(List.of("of_colour"),
            client.listIndexes(ListIndexesReq.builder().collectionName(name).fieldName("colour").build()));
        DescribeIndexResp.IndexDesc d = client.describeIndex(DescribeIndexReq.builder().collectionName(name)
            .indexName("of_vector").build()).getIndexDescByFieldName("vector");
        assertEquals(IndexParam.IndexType.HNSW, d.getIndexType());
        assertEquals(IndexParam.MetricType.IP, d.getMetricType());
        assertEquals(IndexBuildState.Finished, d.getIndexState());
        assertTrue(d.getExtraParams().toString().contains("16"), d.getExtraParams().toString());
        client.dropIndex(DropIndexReq.builder().collectionName(name).fieldName("colour").indexName("of_colour").build());
        assertEquals(List.of("of_vector"),
            client.listIndexes(ListIndexesReq.builder().collectionName(name).build()));
        drop(name);
    }

    @Test
    void aCollectionIsLoadedReleasedLoadedAgain() {
        String name = fresh("load");
        List<Row> rows = rows(0, 20, 1);
        make(client, name, rows);
        assertTrue(loaded(name));
        client.releaseCollection(ReleaseCollectionReq.builder().collectionName(name).build());
        assertFalse(loaded(name));
        SearchReq search = SearchReq.builder().collectionName(name).data(List.of(asked(rows.get(0).vector))).topK(3)
            .build();
        refused("not loaded", () -> client.search(search));
        client.loadCollection(LoadCollectionReq.builder().collectionName(name).build());
        assertEquals(nearest(rows, r -> true, rows.get(0).vector, 3), hits(client.search(search).getSearchResults().get(0)));
        client.refreshLoad(RefreshLoadReq.builder().collectionName(name).build());
        assertEquals("LoadStateLoaded",
            client.getLoadStateV2(GetLoadStateReq.builder().collectionName(name).build()).getStateName());
        drop(name);
    }

    @Test
    void flushAndStatistics() {
        String name = fresh("stats");
        make(client, name, rows(0, 30, 1));
        flush(name);
        assertEquals(30, client.getCollectionStats(GetCollectionStatsReq.builder().collectionName(name).build())
            .getNumOfEntities());
        assertEquals(30, client.getPersistentSegmentInfo(GetPersistentSegmentInfoReq.builder().collectionName(name)
            .build()).getSegmentInfos().stream().mapToLong(s -> s.getNumOfRows()).sum());
        drop(name);
    }

    @Test
    void anAliasNamesOneCollectionThenAnother() {
        String one = fresh("one");
        String two = fresh("two");
        String alias = fresh("alias");
        make(client, one, rows(0, 1, 1));
        make(client, two, rows(0, 2, 1));
        client.createAlias(CreateAliasReq.builder().collectionName(one).alias(alias).build());
        assertEquals(1, count(client, alias, ""));
        assertEquals(one, client.describeAlias(DescribeAliasReq.builder().alias(alias).build()).getCollectionName());
        assertEquals(List.of(alias),
            client.listAliases(ListAliasesReq.builder().collectionName(one).build()).getAlias());
        refused("alias", () -> client.createAlias(CreateAliasReq.builder().collectionName(two).alias(alias).build()));
        client.alterAlias(AlterAliasReq.builder().collectionName(two).alias(alias).build());
        assertEquals(2, count(client, alias, ""));
        client.dropAlias(DropAliasReq.builder().alias(alias).build());
        refused("alias", () -> client.describeAlias(DescribeAliasReq.builder().alias(alias).build()));
        drop(one, two);
    }

    @Test
    void partitionsAreCreatedFilledLoadedDropped() {
        String name = fresh("partition");
        List<Row> rows = rows(0, 20, 1);
        make(client, name, rows.subList(0, 10));
        client.createPartition(CreatePartitionReq.builder().collectionName(name).partitionName("p").build());
        assertTrue(client.hasPartition(HasPartitionReq.builder().collectionName(name).partitionName("p").build()));
        assertFalse(client.hasPartition(HasPartitionReq.builder().collectionName(name).partitionName("q").build()));
        assertEquals(Set.of("_default", "p"),
            new HashSet<>(client.listPartitions(ListPartitionsReq.builder().collectionName(name).build())));
        insert(client, name, "p", rows.subList(10, 20));
        float[] query = rows.get(0).vector;
        SearchResp found = client.search(SearchReq.builder().collectionName(name).partitionNames(List.of("p"))
            .data(List.of(asked(query))).topK(4).build());
        assertEquals(nearest(rows, r -> r.id >= 10, query, 4), hits(found.getSearchResults().get(0)));
        flush(name);
        assertEquals(10, client.getPartitionStats(GetPartitionStatsReq.builder().collectionName(name)
            .partitionName("p").build()).getNumOfEntities());
        client.releasePartitions(ReleasePartitionsReq.builder().collectionName(name).partitionNames(List.of("p")).build());
        refused("not loaded", () -> client.query(QueryReq.builder().collectionName(name).filter("id >= 0").limit(5)
            .partitionNames(List.of("p")).build()));
        client.loadPartitions(LoadPartitionsReq.builder().collectionName(name).partitionNames(List.of("p")).build());
        client.releasePartitions(ReleasePartitionsReq.builder().collectionName(name).partitionNames(List.of("p")).build());
        client.dropPartition(DropPartitionReq.builder().collectionName(name).partitionName("p").build());
        assertEquals(10, count(client, name, ""));
        drop(name);
    }

    @Test
    void propertiesAreAlteredAndDropped() {
        String name = fresh("alter");
        make(client, name, List.of());
        client.alterCollectionProperties(AlterCollectionPropertiesReq.builder().collectionName(name)
            .property("collection.ttl.seconds", "3600").build());
        assertEquals("3600", describe(name).getProperties().get("collection.ttl.seconds"));
        client.dropCollectionProperties(DropCollectionPropertiesReq.builder().collectionName(name)
            .propertyKeys(List.of("collection.ttl.seconds")).build());
        assertFalse(describe(name).getProperties().containsKey("collection.ttl.seconds"));
        drop(name);
    }

    @Test
    void aFieldIsAddedToACollectionWithRows() {
        String name = fresh("add_field");
        make(client, name, rows(0, 2, 1));
        client.addCollectionField(AddCollectionFieldReq.builder().collectionName(name).fieldName("later")
            .dataType(DataType.Int64).isNullable(true).build());
        JsonObject row = rows(2, 1, 1).get(0).json();
        row.addProperty("later", 7);
        client.insert(InsertReq.builder().collectionName(name).data(List.of(row)).build());
        assertEquals(Arrays.asList(null, null, 7L), column(client.query(QueryReq.builder().collectionName(name)
            .filter("id >= 0").outputFields(List.of("later")).build()).getQueryResults(), "later"));
        assertNull(describe(name).getCollectionSchema().getField("later").getDefaultValue());
        drop(name);
    }
}
