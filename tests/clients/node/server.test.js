/* The connection, databases, users: what is not about one collection. */
'use strict';

const { MilvusClient, address, assert, connect, fresh, make, ok, refused, simpleRows, test } =
  require('./support');

const client = connect();

test('connects, tells its health and its version', async () => {
  await client.connectPromise;
  const health = ok(await client.checkHealth());
  assert.strictEqual(health.isHealthy, true);
  assert.match(ok(await client.getVersion()).version, /^v?\d+\.\d+/);
});

test('connects with a scheme, a token, a user', async () => {
  for (const config of [
    { address: `http://${address}` },
    { address, token: 'root:Milvus' },
    { address, username: 'root', password: 'Milvus' },
  ]) {
    const c = new MilvusClient(config);
    ok(await c.listDatabases());
    await c.closeConnection();
  }
});

test('a connection to nobody is an error', async () => {
  const c = new MilvusClient({ address: '127.0.0.1:1', timeout: 500, maxRetries: 0 });
  await assert.rejects(async () => {
    await c.connectPromise;
    await c.listDatabases();
  });
  await c.closeConnection();
});

test('databases are created, used, listed, described, dropped', async () => {
  const db = fresh('db');
  const name = fresh('in_db');
  ok(await client.createDatabase({ db_name: db, properties: { 'database.replica.number': 1 } }));
  assert.ok(ok(await client.listDatabases()).db_names.includes(db));
  const described = ok(await client.describeDatabase({ db_name: db }));
  assert.strictEqual(described.db_name, db);
  assert.ok(described.properties.some(p => p.key === 'database.replica.number' && p.value === '1'));

  const inside = connect({ database: db });
  await make(inside, name, simpleRows(5));
  assert.deepStrictEqual(ok(await inside.listCollections()).data.map(c => c.name), [name]);
  assert.strictEqual(ok(await client.hasCollection({ collection_name: name })).value, false);
  assert.strictEqual(ok(await client.hasCollection({ collection_name: name, db_name: db })).value, true);
  assert.strictEqual(ok(await inside.count({ collection_name: name })).data, 5);

  await refused(client.dropDatabase({ db_name: db }), /not empty|collections/i);
  ok(await inside.dropCollection({ collection_name: name }));
  ok(await client.dropDatabase({ db_name: db }));
  assert.ok(!ok(await client.listDatabases()).db_names.includes(db));
});

test('a client changes its database with use', async () => {
  const db = fresh('db');
  const name = fresh('in_db');
  const c = connect();
  ok(await c.createDatabase({ db_name: db }));
  await c.use({ db_name: db });
  await make(c, name);
  await c.use({ db_name: 'default' });
  assert.strictEqual(ok(await c.hasCollection({ collection_name: name })).value, false);
  await c.use({ db_name: db });
  assert.strictEqual(ok(await c.hasCollection({ collection_name: name })).value, true);
  ok(await c.dropCollection({ collection_name: name }));
  ok(await c.dropDatabase({ db_name: db }));
});

test('users are created, listed, changed, deleted', async () => {
  const username = fresh('user').slice(0, 31);
  ok(await client.createUser({ username, password: 'first-Pass1' }));
  assert.ok(ok(await client.listUsers()).usernames.includes(username));
  ok(await client.updateUser({ username, oldPassword: 'first-Pass1', newPassword: 'second-Pass2' }));
  ok(await client.deleteUser({ username }));
  assert.ok(!ok(await client.listUsers()).usernames.includes(username));
});
