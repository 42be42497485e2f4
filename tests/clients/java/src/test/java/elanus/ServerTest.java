package elanus;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.milvus.v2.client.ConnectConfig;
import io.milvus.v2.client.MilvusClientV2;
import io.milvus.v2.service.collection.request.DropCollectionReq;
import io.milvus.v2.service.collection.request.HasCollectionReq;
import io.milvus.v2.service.database.request.CreateDatabaseReq;
import io.milvus.v2.service.database.request.DescribeDatabaseReq;
import io.milvus.v2.service.database.request.DropDatabaseReq;
import io.milvus.v2.service.rbac.request.CreateUserReq;
import io.milvus.v2.service.rbac.request.DropUserReq;
import io.milvus.v2.service.rbac.request.UpdatePasswordReq;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** The connection, databases, users: what is not about one collection. */
class ServerTest extends Fixture {
    @Test
    void connectsAndTellsHealthAndVersion() {
        assertTrue(client.clientIsReady());
        assertTrue(client.checkHealth().getIsHealthy());
        assertTrue(client.getServerVersion().matches("v?\\d+\\.\\d+.*"));
    }

    @Test
    void connectsWithATokenOrAUser() {
        for (ConnectConfig config : List.of(
            ConnectConfig.builder().uri(URI).token("root:Milvus").build(),
            ConnectConfig.builder().uri(URI).username("root").password("Milvus").build())) {
            MilvusClientV2 c = new MilvusClientV2(config);
            assertTrue(c.listDatabases().getDatabaseNames().contains("default"));
            c.close();
        }
    }

    @Test
    void aDatabaseThatIsMissingIsRefused() {
        assertThrows(RuntimeException.class, () -> connect("java_no_such_database"));
    }

    @Test
    void databasesAreCreatedUsedListedDescribedDropped() throws InterruptedException {
        String db = fresh("db");
        String name = fresh("in_db");
        client.createDatabase(CreateDatabaseReq.builder().databaseName(db)
            .properties(Map.of("database.replica.number", "1")).build());
        assertTrue(client.listDatabases().getDatabaseNames().contains(db));
        assertEquals("1", client.describeDatabase(DescribeDatabaseReq.builder().databaseName(db).build())
            .getProperties().get("database.replica.number"));

        MilvusClientV2 inside = connect(null);
        inside.useDatabase(db);
        assertEquals(db, inside.currentUsedDatabase());
        make(inside, name, rows(0, 5, 1));
        assertEquals(List.of(name), inside.listCollections().getCollectionNames());
        assertFalse(client.hasCollection(HasCollectionReq.builder().collectionName(name).build()));
        assertTrue(client.hasCollection(HasCollectionReq.builder().databaseName(db).collectionName(name).build()));
        assertEquals(5, count(inside, name, ""));

        refused("not empty|collection", () -> client.dropDatabase(DropDatabaseReq.builder().databaseName(db).build()));
        inside.dropCollection(DropCollectionReq.builder().collectionName(name).build());
        inside.close();
        client.dropDatabase(DropDatabaseReq.builder().databaseName(db).build());
        assertFalse(client.listDatabases().getDatabaseNames().contains(db));
    }

    @Test
    void usersAreCreatedListedChangedDropped() {
        String user = fresh("user");
        client.createUser(CreateUserReq.builder().userName(user).password("first-Pass1").build());
        assertTrue(client.listUsers().contains(user));
        client.updatePassword(UpdatePasswordReq.builder().userName(user).password("first-Pass1")
            .newPassword("second-Pass2").build());
        client.dropUser(DropUserReq.builder().userName(user).build());
        assertFalse(client.listUsers().contains(user));
    }
}
