package elanus;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.milvus.v2.client.MilvusClientV2;
import io.milvus.v2.common.ConsistencyLevel;
import io.milvus.v2.common.DataType;
import io.milvus.v2.common.IndexParam;
import io.milvus.v2.service.collection.request.AddFieldReq;
import io.milvus.v2.service.collection.request.CreateCollectionReq;
import io.milvus.v2.service.collection.request.DescribeCollectionReq;
import io.milvus.v2.service.collection.request.GetCollectionStatsReq;
import io.milvus.v2.service.collection.request.LoadCollectionReq;
import io.milvus.v2.service.utility.request.FlushReq;
import io.milvus.v2.service.vector.request.DeleteReq;
import io.milvus.v2.service.vector.request.GetReq;
import io.milvus.v2.service.vector.request.InsertReq;
import io.milvus.v2.service.vector.request.QueryReq;
import io.milvus.v2.service.vector.request.SearchReq;
import io.milvus.v2.service.vector.request.UpsertReq;
import io.milvus.v2.service.vector.response.InsertResp;
import io.milvus.v2.service.vector.response.QueryResp;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;

/** Rows: insert, query, get, count, upsert, delete, every data type. */
class DataTest extends Fixture {
    private static List<QueryResp.QueryResult> query(String name, String filter, long limit, String... fields) {
        return client.query(QueryReq.builder().collectionName(name).filter(filter).limit(limit)
            .outputFields(List.of(fields)).build()).getQueryResults();
    }

    private static List<JsonObject> json(List<Row> rows) {
        return rows.stream().map(Row::json).collect(Collectors.toList());
    }

    @Test
    void automaticIdsAreGivenAndFoundAgain() {
        String name = fresh("auto");
        client.createCollection(CreateCollectionReq.builder().collectionName(name).dimension(DIM).autoID(true)
            .metricType("L2").consistencyLevel(ConsistencyLevel.STRONG).build());
        List<Row> rows = rows(0, 10, 5);
        List<JsonObject> data = json(rows);
        data.forEach(o -> o.remove("id"));
        InsertResp inserted = client.insert(InsertReq.builder().collectionName(name).data(data).build());
        List<Object> given = inserted.getPrimaryKeys();
        assertEquals(10, new HashSet<>(given).size());
        List<QueryResp.QueryResult> found = client.get(GetReq.builder().collectionName(name).ids(given)
            .outputFields(List.of("id", "colour", "vector")).build()).getGetResults();
        assertEquals(10, found.size());
        for (QueryResp.QueryResult r : found) {
            Row row = rows.get(given.indexOf(r.getEntity().get("id")));
            assertEquals(row.colour, r.getEntity().get("colour"));
            List<?> v = (List<?>) r.getEntity().get("vector");
            for (int i = 0; i < DIM; i++) {
                assertEquals(row.vector[i], (Float) v.get(i));
            }
        }
        drop(name);
    }

    @Test
    void everyServedTypeComesBackAsItWasSent() {
        String name = fresh("types");
        CreateCollectionReq.CollectionSchema schema = MilvusClientV2.CreateSchema();
        schema.setEnableDynamicField(true);
        schema.addField(AddFieldReq.builder().fieldName("pk").dataType(DataType.VarChar).maxLength(64)
            .isPrimaryKey(true).build());
        Map<String, DataType> vectors = Map.of("vector", DataType.FloatVector, "half", DataType.Float16Vector,
            "brain", DataType.BFloat16Vector, "binary", DataType.BinaryVector);
        vectors.forEach((f, t) -> schema.addField(AddFieldReq.builder().fieldName(f).dataType(t)
            .dimension(f.equals("binary") ? 16 : 4).build()));
        Map.of("b", DataType.Bool, "i8", DataType.Int8, "i16", DataType.Int16, "i32", DataType.Int32, "i64",
            DataType.Int64, "f", DataType.Float, "d", DataType.Double, "j", DataType.JSON)
            .forEach((f, t) -> schema.addField(field(f, t)));
        schema.addField(AddFieldReq.builder().fieldName("s").dataType(DataType.VarChar).maxLength(100)
            .isNullable(true).build());
        schema.addField(AddFieldReq.builder().fieldName("def").dataType(DataType.Int64).defaultValue(42L).build());
        schema.addField(AddFieldReq.builder().fieldName("ai").dataType(DataType.Array).elementType(DataType.Int32)
            .maxCapacity(8).build());
        schema.addField(AddFieldReq.builder().fieldName("as").dataType(DataType.Array).elementType(DataType.VarChar)
            .maxLength(20).maxCapacity(8).build());
        List<IndexParam> indexes = vectors.keySet().stream().map(f -> f.equals("binary")
            ? IndexParam.builder().fieldName(f).indexType(IndexParam.IndexType.BIN_FLAT)
                .metricType(IndexParam.MetricType.HAMMING).build()
            : index(f)).collect(Collectors.toList());
        client.createCollection(CreateCollectionReq.builder().collectionName(name).collectionSchema(schema)
            .indexParams(indexes).consistencyLevel(ConsistencyLevel.STRONG).build());

        JsonObject row = JsonParser.parseString("{'pk': 'é-1', 'vector': [1, 2, 3, 4], 'b': true, 'i8': -128,"
            + "'i16': 32767, 'i32': -2147483648, 'i64': 9007199254740993, 'f': 0.5, 'd': 1e300, 's': null,"
            + "'j': {'a': [1, {'b': 'x'}], 't': true}, 'ai': [1, -2, 3], 'as': ['x', '', 'ü'],"
            + "'extra': {'deep': [1, 2]}, 'more': 'dynamic'}").getAsJsonObject();
        row.add("half", GSON.toJsonTree(new byte[] {0, 60, 0, 56, 0, (byte) 192, 0, 52}));
        row.add("brain", GSON.toJsonTree(new byte[] {(byte) 128, 63, 0, 64, (byte) 128, (byte) 192, 0, 63}));
        row.add("binary", GSON.toJsonTree(new byte[] {(byte) 0xa5, 0x0f}));
        JsonObject second = row.deepCopy();
        second.addProperty("pk", "two");
        second.addProperty("s", "here");
        second.addProperty("def", 7);
        second.add("ai", new JsonArray());
        second.add("more", JsonNull.INSTANCE);
        assertEquals(2, client.insert(InsertReq.builder().collectionName(name).data(List.of(row, second)).build())
            .getInsertCnt());

        List<QueryResp.QueryResult> found = query(name, "pk == \"é-1\"", 9, "*");
        assertEquals(1, found.size());
        Map<String, Object> one = found.get(0).getEntity();
        assertEquals(List.of(1f, 2f, 3f, 4f), one.get("vector"));
        assertArrayEquals(new byte[] {0, 60, 0, 56, 0, (byte) 192, 0, 52}, bytes(one.get("half")));
        assertArrayEquals(new byte[] {(byte) 128, 63, 0, 64, (byte) 128, (byte) 192, 0, 63}, bytes(one.get("brain")));
        assertArrayEquals(new byte[] {(byte) 0xa5, 0x0f}, bytes(one.get("binary")));
        assertEquals(true, one.get("b"));
        assertEquals(-128, ((Number) one.get("i8")).intValue());
        assertEquals(32767, ((Number) one.get("i16")).intValue());
        assertEquals(Integer.MIN_VALUE, one.get("i32"));
        assertEquals(9007199254740993L, one.get("i64"));
        assertEquals(0.5f, one.get("f"));
        assertEquals(1e300, one.get("d"));
        assertNull(one.get("s"));
        assertEquals(42L, one.get("def"));
        assertEquals(row.get("j"), (JsonElement) one.get("j"));
        assertEquals(List.of(1, -2, 3), one.get("ai"));
        assertEquals(List.of("x", "", "ü"), one.get("as"));
        assertEquals("dynamic", text(one.get("more")));
        Map<String, Object> two = query(name, "def == 7 and s == 'here'", 9, "s", "ai", "def").get(0).getEntity();
        assertEquals("here", two.get("s"));
        assertEquals(List.of(), two.get("ai"));
        List<QueryResp.QueryResult> byDynamic = query(name, "more == 'dynamic' and extra['deep'][1] == 2", 9, "more");
        assertEquals(1, byDynamic.size());
        assertEquals("dynamic", text(byDynamic.get(0).getEntity().get("more")));
        drop(name);
    }

    private static byte[] bytes(Object buffer) {
        ByteBuffer b = ((ByteBuffer) buffer).duplicate();
        b.rewind();
        byte[] got = new byte[b.remaining()];
        b.get(got);
        return got;
    }

    /** Values of the dynamic field come as JSON from some calls, as plain values from others. */
    private static String text(Object value) {
        return value instanceof JsonElement ? ((JsonElement) value).getAsString() : (String) value;
    }

    @Test
    void queriesFilterPageAndChooseFields() {
        String name = fresh("query");
        List<Row> rows = rows(0, 40, 1);
        make(client, name, rows);
        List<Row> wanted = rows.stream().filter(r -> r.colour.equals("red") && r.price < 10)
            .collect(Collectors.toList());
        List<QueryResp.QueryResult> found = query(name, "colour == 'red' and price < 10", 100, "id", "colour", "price");
        assertEquals(wanted.stream().map(r -> r.id).collect(Collectors.toList()), column(found, "id"));
        assertEquals(wanted.stream().map(r -> r.price).collect(Collectors.toList()), column(found, "price"));
        assertEquals(List.of(1L, 3L), column(query(name, "id in [3, 1, 99]", 9, "id"), "id"));
        assertEquals(List.of(5L, 6L, 7L), column(client.query(QueryReq.builder().collectionName(name)
            .filter("id >= 0").offset(5).limit(3).outputFields(List.of("id")).build()).getQueryResults(), "id"));
        assertEquals(List.of(1L, 4L), column(query(name, "colour like 'gr%'", 2, "id"), "id"));
        assertEquals(List.of(1L, 4L, 7L), column(client.query(QueryReq.builder().collectionName(name)
            .filter("id in {ids} and colour == {c}")
            .filterTemplateValues(Map.of("ids", List.of(1L, 2L, 4L, 7L), "c", "green"))
            .outputFields(List.of("id")).build()).getQueryResults(), "id"));
        assertEquals(List.of(1.0, 4.5), column(client.query(QueryReq.builder().collectionName(name)
            .ids(List.of(2L, 9L)).outputFields(List.of("price")).build()).getQueryResults(), "price"));
        assertEquals(List.of(), query(name, "id > 1000", 9, "id"));
        assertEquals(40, count(client, name, ""));
        assertEquals(26, count(client, name, "colour != 'red'"));
        drop(name);
    }

    @Test
    void upsertReplacesRowsAndAddsNewOnes() {
        String name = fresh("upsert");
        List<Row> rows = rows(0, 10, 1);
        make(client, name, rows);
        List<Row> changed = rows(8, 4, 9).stream().map(r -> new Row(r.id, r.vector, "gold", r.price))
            .collect(Collectors.toList());
        assertEquals(4, client.upsert(UpsertReq.builder().collectionName(name).data(json(changed)).build())
            .getUpsertCnt());
        assertEquals(12, count(client, name, ""));
        assertEquals(List.of(8L, 9L, 10L, 11L), column(query(name, "colour == 'gold'", 99, "id"), "id"));

        JsonObject part = new JsonObject();
        part.addProperty("id", 1);
        part.addProperty("colour", "gold");
        client.upsert(UpsertReq.builder().collectionName(name).partialUpdate(true).data(List.of(part)).build());
        Map<String, Object> one = query(name, "id == 1", 1, "*").get(0).getEntity();
        assertEquals("gold", one.get("colour"));
        assertEquals(0.5, one.get("price"));
        assertEquals(rows.get(1).vector[3], (Float) ((List<?>) one.get("vector")).get(3));
        drop(name);
    }

    @Test
    void rowsAreDeletedByIdsAndByFilter() {
        String name = fresh("delete");
        make(client, name, rows(0, 30, 1));
        assertEquals(3, client.delete(DeleteReq.builder().collectionName(name).ids(List.of(0L, 3L, 5L)).build())
            .getDeleteCnt());
        assertEquals(27, count(client, name, ""));
        client.delete(DeleteReq.builder().collectionName(name).filter("price >= 10").build());
        client.delete(DeleteReq.builder().collectionName(name).filter("id in {ids}")
            .filterTemplateValues(Map.of("ids", List.of(7L, 8L))).build());
        List<Long> left = LongStream.range(0, 20).filter(i -> !List.of(0L, 3L, 5L, 7L, 8L).contains(i)).boxed()
            .collect(Collectors.toList());
        assertEquals(left, column(query(name, "id >= 0", 99, "id"), "id"));
        client.flush(FlushReq.builder().collectionNames(List.of(name)).build());
        assertEquals(15, count(client, name, ""));
        drop(name);
    }

    @Test
    void textKeysAreFoundAndDeletedByIds() {
        String name = fresh("text_key");
        client.createCollection(CreateCollectionReq.builder().collectionName(name).dimension(DIM)
            .idType(DataType.VarChar).maxLength(16).metricType("L2").consistencyLevel(ConsistencyLevel.STRONG).build());
        List<JsonObject> data = new ArrayList<>();
        for (Row r : rows(0, 4, 2)) {
            JsonObject o = r.json();
            o.addProperty("id", "käy " + r.id);
            data.add(o);
        }
        client.insert(InsertReq.builder().collectionName(name).data(data).build());
        client.delete(DeleteReq.builder().collectionName(name).ids(List.of("käy 1", "käy 3")).build());
        assertEquals(List.of("käy 0", "käy 2"), column(query(name, "", 9, "id"), "id"));
        drop(name);
    }

    @Test
    void aPartitionKeySpreadsAndFindsRows() {
        String name = fresh("tenant");
        CreateCollectionReq.CollectionSchema schema = MilvusClientV2.CreateSchema();
        schema.addField(AddFieldReq.builder().fieldName("id").dataType(DataType.Int64).isPrimaryKey(true).build());
        schema.addField(AddFieldReq.builder().fieldName("tenant").dataType(DataType.VarChar).maxLength(16)
            .isPartitionKey(true).build());
        schema.addField(AddFieldReq.builder().fieldName("vector").dataType(DataType.FloatVector).dimension(DIM).build());
        client.createCollection(CreateCollectionReq.builder().collectionName(name).collectionSchema(schema)
            .numPartitions(4).indexParam(index("vector")).consistencyLevel(ConsistencyLevel.STRONG).build());
        List<JsonObject> data = new ArrayList<>();
        for (Row r : rows(0, 30, 8)) {
            JsonObject o = r.json();
            o.remove("colour");
            o.remove("price");
            o.addProperty("tenant", "t" + r.id % 5);
            data.add(o);
        }
        client.insert(InsertReq.builder().collectionName(name).data(data).build());
        assertEquals(4, client.describeCollection(DescribeCollectionReq.builder().collectionName(name).build())
            .getNumOfPartitions());
        assertEquals(6, count(client, name, "tenant == 't2'"));
        drop(name);
    }

    @Test
    void wrongRowsAreRefusedAndLeaveNothingBehind() {
        String name = fresh("wrong");
        make(client, name, List.of());
        Row row = rows(0, 1, 1).get(0);
        List<Row> wrong = List.of(new Row(1, new float[] {1, 2, 3}, "red", 1),
            new Row(1, row.vector, "x".repeat(33), 1));
        for (Row r : wrong) {
            refused("dim|length", () -> client.insert(InsertReq.builder().collectionName(name)
                .data(List.of(r.json())).build()));
        }
        JsonObject lacking = row.json();
        lacking.remove("colour");
        refused("colour", () -> client.insert(InsertReq.builder().collectionName(name)
            .data(List.of(lacking)).build()));
        assertEquals(0, count(client, name, ""));
        drop(name);
    }

    @Test
    void aMissingCollectionIsNamedInTheComplaint() {
        String name = fresh("missing");
        String words = "not found|can't find|not exist";
        refused(words, () -> client.describeCollection(DescribeCollectionReq.builder().collectionName(name).build()));
        refused(words, () -> client.insert(InsertReq.builder().collectionName(name).data(json(rows(0, 1, 1))).build()));
        refused(words, () -> query(name, "id > 0", 1, "id"));
        refused(words, () -> client.search(SearchReq.builder().collectionName(name)
            .data(List.of(asked(vector(1)))).topK(1).build()));
        refused(words, () -> client.loadCollection(LoadCollectionReq.builder().collectionName(name).build()));
        refused(words, () -> client.getCollectionStats(GetCollectionStatsReq.builder().collectionName(name).build()));
    }
}
