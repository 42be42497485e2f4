// The Node client's flows against the server at ELANUS_ADDRESS (host:port).
'use strict';
const test = require('node:test');
const assert = require('node:assert');
const { MilvusClient, DataType, MetricType, ConsistencyLevelEnum, RRFRanker } =
  require('@zilliz/milvus2-sdk-node');

const address = process.env.ELANUS_ADDRESS;
const DIM = 8;
const N = 200;
let client;
let counter = 0;

function vector(seed) {
  let s = seed * 2654435761 + 1;
  return Array.from({ length: DIM }, () => {
    s = (s * 1103515245 + 12345) % 2147483648;
    return s / 2147483648 - 0.5;
  });
}
const l2 = (a, b) => a.reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0);
const ok = r => {
  const st = r.status || r;
  assert.strictEqual(st.error_code, 'Success', JSON.stringify(st));
  return r;
};
const name = what => `node_${what}_${++counter}`;
const rows = Array.from({ length: N }, (_, i) =>
  ({ id: i, x: i % 10, t: `t${i}`, j: { a: i }, vector: vector(i) }));

async function filled(what) {
  const collection_name = name(what);
  ok(await client.createCollection({
    collection_name, consistency_level: ConsistencyLevelEnum.Strong, enable_dynamic_field: true,
    fields: [
      { name: 'id', data_type: DataType.Int64, is_primary_key: true },
      { name: 'x', data_type: DataType.Int32 },
      { name: 't', data_type: DataType.VarChar, max_length: 32, nullable: true },
      { name: 'j', data_type: DataType.JSON },
      { name: 'vector', data_type: DataType.FloatVector, dim: DIM },
    ],
    index_params: [{ field_name: 'vector', index_type: 'HNSW', metric_type: MetricType.L2,
                     params: { M: 16, efConstruction: 100 } }],
  }));
  ok(await client.loadCollectionSync({ collection_name }));
  const r = ok(await client.insert({ collection_name, data: rows }));
  assert.strictEqual(Number(r.insert_cnt), N);
  return collection_name;
}

test.before(async () => {
  client = new MilvusClient({ address });
  await client.connectPromise;
});
test.after(async () => {
  for (const c of (await client.showCollections()).data) {
    if (c.name.startsWith('node_')) await client.dropCollection({ collection_name: c.name });
  }
  await client.closeConnection();
});

test('version and health', async () => {
  const v = ok(await client.getVersion());
  assert.match(v.version, /^v?\d+\.\d+\.\d+/);
  assert.strictEqual((await client.checkHealth()).isHealthy, true);
});

test('has, describe, list, drop of a collection', async () => {
  const collection_name = await filled('ddl');
  assert.strictEqual((await client.hasCollection({ collection_name })).value, true);
  const d = ok(await client.describeCollection({ collection_name }));
  assert.deepStrictEqual(d.schema.fields.map(f => f.name), ['id', 'x', 't', 'j', 'vector']);
  assert.strictEqual(d.schema.enable_dynamic_field, true);
  assert.ok((await client.showCollections()).data.some(c => c.name === collection_name));
  const i = ok(await client.describeIndex({ collection_name, field_name: 'vector' }));
  assert.strictEqual(i.index_descriptions[0].state, 'Finished');
  ok(await client.dropCollection({ collection_name }));
  assert.strictEqual((await client.hasCollection({ collection_name })).value, false);
  const gone = await client.describeCollection({ collection_name });
  assert.notStrictEqual(gone.status.error_code, 'Success');
  assert.strictEqual(Number(gone.status.code), 100);
});

test('quick create, insert, search', async () => {
  const collection_name = name('quick');
  ok(await client.createCollection({ collection_name, dimension: DIM, metric_type: MetricType.L2,
                                     consistency_level: ConsistencyLevelEnum.Strong }));
  ok(await client.insert({ collection_name, data: [{ id: 1, vector: vector(1), colour: 'red' },
                                                   { id: 2, vector: vector(2), colour: 'blue' }] }));
  const s = ok(await client.search({ collection_name, data: vector(2), limit: 1,
                                     output_fields: ['id', 'colour'] }));
  assert.strictEqual(String(s.results[0].id), '2');
  assert.strictEqual(s.results[0].colour, 'blue');
});

test('search answers the nearest, with filter, fields and pages', async () => {
  const collection_name = await filled('search');
  const q = vector(1001);
  const want = rows.filter(r => r.x < 5).sort((a, b) => l2(a.vector, q) - l2(b.vector, q));
  const s = ok(await client.search({ collection_name, data: q, limit: 10, filter: 'x < 5',
                                     output_fields: ['id', 't', 'x'], params: { ef: 200 } }));
  assert.deepStrictEqual(s.results.map(r => Number(r.id)), want.slice(0, 10).map(r => r.id));
  s.results.forEach((r, n) => {
    assert.ok(Math.abs(r.score - l2(want[n].vector, q)) < 1e-4);
    assert.strictEqual(r.t, want[n].t);
  });
  const page = ok(await client.search({ collection_name, data: q, limit: 5, offset: 5,
                                        filter: 'x < 5', output_fields: ['id'], params: { ef: 200 } }));
  assert.deepStrictEqual(page.results.map(r => Number(r.id)), want.slice(5, 10).map(r => r.id));
  const two = ok(await client.search({ collection_name, data: [q, vector(7)], limit: 3,
                                       output_fields: ['id'] }));
  assert.strictEqual(two.results.length, 2);
  assert.strictEqual(Number(two.results[1][0].id), 7);
});

test('query, get, count', async () => {
  const collection_name = await filled('query');
  const r = ok(await client.query({ collection_name, filter: 'x == 3 and j["a"] > 100',
                                    output_fields: ['id', 'j', 't'] }));
  assert.deepStrictEqual(r.data.map(d => Number(d.id)),
                         rows.filter(d => d.x === 3 && d.id > 100).map(d => d.id));
  assert.deepStrictEqual(r.data[0].j, { a: 103 });
  const g = ok(await client.get({ collection_name, ids: [5, 6], output_fields: ['t'] }));
  assert.deepStrictEqual(g.data.map(d => d.t).sort(), ['t5', 't6']);
  assert.strictEqual(Number(ok(await client.count({ collection_name })).data), N);
  assert.strictEqual(Number(ok(await client.count({ collection_name, expr: 'x == 1' })).data), 20);
});

test('delete and upsert', async () => {
  const collection_name = await filled('write');
  ok(await client.delete({ collection_name, ids: [1, 2] }));
  ok(await client.delete({ collection_name, filter: 'x == 9' }));
  ok(await client.upsert({ collection_name, data: [{ ...rows[3], t: 'changed' },
                                                   { ...rows[3], id: 1000, t: null }] }));
  assert.strictEqual(Number(ok(await client.count({ collection_name })).data), N - 2 - 20 + 1);
  const r = ok(await client.query({ collection_name, filter: 'id in [1, 3, 1000]',
                                    output_fields: ['t'] }));
  assert.deepStrictEqual(r.data.map(d => d.t), ['changed', null]);
});

test('flush, statistics, partitions, alias', async () => {
  const collection_name = await filled('admin');
  ok(await client.flushSync({ collection_names: [collection_name] }));
  const s = ok(await client.getCollectionStatistics({ collection_name }));
  assert.strictEqual(Number(s.data.row_count), N);
  ok(await client.createPartition({ collection_name, partition_name: 'p' }));
  assert.strictEqual((await client.hasPartition({ collection_name, partition_name: 'p' })).value,
                     true);
  const list = ok(await client.showPartitions({ collection_name }));
  assert.deepStrictEqual([...list.partition_names].sort(), ['_default', 'p']);
  ok(await client.createAlias({ collection_name, alias: `${collection_name}_a` }));
  const d = ok(await client.describeAlias({ collection_name, alias: `${collection_name}_a` }));
  assert.strictEqual(d.collection, collection_name);
  ok(await client.dropAlias({ alias: `${collection_name}_a` }));
  ok(await client.releaseCollection({ collection_name }));
  ok(await client.dropPartition({ collection_name, partition_name: 'p' }));
});

test('hybrid search of two fields', async () => {
  const collection_name = name('hybrid');
  ok(await client.createCollection({
    collection_name, consistency_level: ConsistencyLevelEnum.Strong,
    fields: [{ name: 'id', data_type: DataType.Int64, is_primary_key: true },
             { name: 'a', data_type: DataType.FloatVector, dim: DIM },
             { name: 'b', data_type: DataType.FloatVector, dim: DIM }],
    index_params: ['a', 'b'].map(field_name => ({ field_name, index_type: 'FLAT',
                                                  metric_type: 'COSINE' })),
  }));
  ok(await client.loadCollectionSync({ collection_name }));
  ok(await client.insert({ collection_name, data: rows.map(r => (
    { id: r.id, a: r.vector, b: vector(r.id + 5000) })) }));
  const s = ok(await client.search({ collection_name, rerank: RRFRanker(60), limit: 3, data: [
    { anns_field: 'a', data: vector(42) }, { anns_field: 'b', data: vector(5042) }] }));
  assert.strictEqual(Number(s.results[0].id), 42);
  assert.ok(Math.abs(s.results[0].score - 2 / 61) < 1e-5);
});

test('iterators go through every row', async () => {
  const collection_name = await filled('iterator');
  let seen = [];
  for await (const page of await client.queryIterator({ collection_name, batchSize: 33,
                                                        expr: 'id >= 0', output_fields: ['id'] })) {
    seen = seen.concat(page.map(r => Number(r.id)));
  }
  assert.deepStrictEqual(seen, rows.map(r => r.id));
});

test('errors have codes and words', async () => {
  const collection_name = await filled('errors');
  const bad = await client.query({ collection_name, filter: 'x ==', output_fields: ['id'] });
  assert.notStrictEqual(bad.status.error_code, 'Success');
  assert.match(bad.status.reason, /cannot parse expression/);
  const r = await client.search({ collection_name, data: [1, 2, 3], limit: 1 });
  assert.notStrictEqual(r.status.error_code, 'Success');
});

test('databases and users', async () => {
  const db_name = name('db');
  ok(await client.createDatabase({ db_name }));
  assert.ok((await client.listDatabases()).db_names.includes(db_name));
  ok(await client.dropDatabase({ db_name }));
  ok(await client.createUser({ username: 'node_user', password: 'secret12' }));
  assert.ok((await client.listUsers()).usernames.includes('node_user'));
  ok(await client.deleteUser({ username: 'node_user' }));
});
