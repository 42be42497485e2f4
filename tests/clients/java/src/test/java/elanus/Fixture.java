package elanus;

import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import io.milvus.v2.client.ConnectConfig;
import io.milvus.v2.client.MilvusClientV2;
import io.milvus.v2.common.ConsistencyLevel;
import io.milvus.v2.common.DataType;
import io.milvus.v2.common.IndexParam;
import io.milvus.v2.exception.MilvusClientException;
import io.milvus.v2.service.collection.request.AddFieldReq;
import io.milvus.v2.service.collection.request.CreateCollectionReq;
import io.milvus.v2.service.collection.request.DropCollectionReq;
import io.milvus.v2.service.vector.request.InsertReq;
import io.milvus.v2.service.vector.request.QueryReq;
import io.milvus.v2.service.vector.request.data.FloatVec;
import io.milvus.v2.service.vector.response.QueryResp;
import io.milvus.v2.service.vector.response.SearchResp;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Predicate;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.function.Executable;

/** What the flows share: a client, and rows whose answers can be computed here. */
abstract class Fixture {
    static final int DIM = 8;
    static final String URI = "http://" + System.getenv("ELANUS_ADDRESS");
    static final Gson GSON = new Gson();
    private static final AtomicInteger NAMES = new AtomicInteger();

    static MilvusClientV2 client;

    @BeforeAll
    static void open() {
        client = connect(null);
    }

    @AfterAll
    static void shut() {
        client.close();
    }

    static MilvusClientV2 connect(String database) {
        ConnectConfig.ConnectConfigBuilder config = ConnectConfig.builder().uri(URI);
        if (database != null) {
            config.dbName(database);
        }
        return new MilvusClientV2(config.build());
    }

    static String fresh(String what) {
        return "java_" + what + "_" + NAMES.incrementAndGet();
    }

    static void drop(String... names) {
        for (String name : names) {
            client.dropCollection(DropCollectionReq.builder().collectionName(name).build());
        }
    }

    static void refused(String words, Executable what) {
        MilvusClientException e = assertThrows(MilvusClientException.class, what);
        assertTrue(e.getMessage().toLowerCase().matches("(?s).*(" + words.toLowerCase() + ").*"), e.getMessage());
    }

    static final class Row {
        final long id;
        final float[] vector;
        final String colour;
        final double price;

        Row(long id, float[] vector, String colour, double price) {
            this.id = id;
            this.vector = vector;
            this.colour = colour;
            this.price = price;
        }

        JsonObject json() {
            JsonObject o = new JsonObject();
            o.addProperty("id", id);
            o.add("vector", GSON.toJsonTree(vector));
            o.addProperty("colour", colour);
            o.addProperty("price", price);
            return o;
        }
    }

    static float[] vector(Random random, int dim) {
        float[] v = new float[dim];
        for (int i = 0; i < dim; i++) {
            v[i] = random.nextFloat() - 0.5f;
        }
        return v;
    }

    static float[] vector(long seed) {
        return vector(new Random(seed), DIM);
    }

    static List<Row> rows(int first, int count, long seed) {
        Random random = new Random(seed);
        List<Row> rows = new ArrayList<>();
        for (int i = first; i < first + count; i++) {
            rows.add(new Row(i, vector(random, DIM), new String[] {"red", "green", "blue"}[i % 3], i * 0.5));
        }
        return rows;
    }

    static double distance(float[] a, float[] b) {
        double sum = 0;
        for (int i = 0; i < a.length; i++) {
            sum += ((double) a[i] - b[i]) * ((double) a[i] - b[i]);
        }
        return sum;
    }

    /** Ids of the rows that pass, nearest first. */
    static List<Long> nearest(List<Row> rows, Predicate<Row> pass, float[] query, int limit) {
        return rows.stream().filter(pass).sorted(Comparator.comparingDouble(r -> distance(r.vector, query)))
            .limit(limit).map(r -> r.id).collect(Collectors.toList());
    }

    static List<Long> hits(List<SearchResp.SearchResult> results) {
        return results.stream().map(r -> (Long) r.getId()).collect(Collectors.toList());
    }

    static List<Object> column(List<QueryResp.QueryResult> results, String field) {
        return results.stream().map(r -> r.getEntity().get(field)).collect(Collectors.toList());
    }

    static FloatVec asked(float[] v) {
        return new FloatVec(v);
    }

    static AddFieldReq field(String name, DataType type) {
        return AddFieldReq.builder().fieldName(name).dataType(type).build();
    }

    static CreateCollectionReq.CollectionSchema simpleSchema() {
        CreateCollectionReq.CollectionSchema schema = MilvusClientV2.CreateSchema();
        schema.addField(AddFieldReq.builder().fieldName("id").dataType(DataType.Int64).isPrimaryKey(true).build());
        schema.addField(AddFieldReq.builder().fieldName("vector").dataType(DataType.FloatVector).dimension(DIM).build());
        schema.addField(AddFieldReq.builder().fieldName("colour").dataType(DataType.VarChar).maxLength(32).build());
        schema.addField(field("price", DataType.Double));
        return schema;
    }

    static IndexParam index(String field) {
        return IndexParam.builder().fieldName(field).indexType(IndexParam.IndexType.AUTOINDEX)
            .metricType(IndexParam.MetricType.L2).build();
    }

    /** With index parameters, the SDK loads the collection as well. */
    static void make(MilvusClientV2 c, String name, List<Row> rows) {
        c.createCollection(CreateCollectionReq.builder().collectionName(name).collectionSchema(simpleSchema())
            .indexParam(index("vector")).consistencyLevel(ConsistencyLevel.STRONG).build());
        if (!rows.isEmpty()) {
            insert(c, name, null, rows);
        }
    }

    static void insert(MilvusClientV2 c, String name, String partition, List<Row> rows) {
        InsertReq.InsertReqBuilder req = InsertReq.builder().collectionName(name)
            .data(rows.stream().map(Row::json).collect(Collectors.toList()));
        if (partition != null) {
            req.partitionName(partition);
        }
        assertTrue(c.insert(req.build()).getInsertCnt() == rows.size());
    }

    static long count(MilvusClientV2 c, String name, String filter) {
        QueryResp got = c.query(QueryReq.builder().collectionName(name).filter(filter)
            .outputFields(List.of("count(*)")).consistencyLevel(ConsistencyLevel.STRONG).build());
        return (Long) got.getQueryResults().get(0).getEntity().get("count(*)");
    }
}
