/* Collections as such: definitions, indexes, load states, aliases, partitions, statistics. */
'use strict';

const { DIM, DataType, assert, connect, fresh, ids, make, nearest, ok, refused, simpleRows, test, vectors } =
  require('./support');

const client = connect();

test('a quick collection is ready at once', async () => {
  const collection_name = fresh('quick');
  ok(await client.createCollection({ collection_name, dimension: 5 }));
  assert.strictEqual(ok(await client.getLoadState({ collection_name })).state, 'LoadStateLoaded');
  const rows = vectors(50, 3, 5).map((vector, id) => ({ id, vector, colour: id % 2 ? 'odd' : 'even' }));
  ok(await client.insert({ collection_name, data: rows }));
  const dot = (a, b) => a.reduce((s, x, i) => s + x * b[i], 0);
  const cosine = (a, b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  const found = ok(await client.search({
    collection_name, data: rows[7].vector, limit: 5, filter: 'colour == "odd"',
    output_fields: ['id', 'colour'], consistency_level: 'Strong',
  }));
  const wanted = rows.filter(r => r.id % 2)
    .sort((a, b) => cosine(b.vector, rows[7].vector) - cosine(a.vector, rows[7].vector));
  assert.deepStrictEqual(ids(found.results), wanted.slice(0, 5).map(r => r.id));
  assert.ok(found.results.every(h => h.colour === 'odd'));
  ok(await client.dropCollection({ collection_name }));
});

test('a schema of every served scalar is described as it was given', async () => {
  const collection_name = fresh('schema');
  ok(await client.createCollection({
    collection_name,
    description: 'every type',
    shards_num: 2,
    enable_dynamic_field: true,
    consistency_level: 'Bounded',
    fields: [
      { name: 'pk', data_type: DataType.VarChar, is_primary_key: true, max_length: 64, description: 'key' },
      { name: 'vector', data_type: DataType.FloatVector, dim: DIM },
      { name: 'b', data_type: DataType.Bool },
      { name: 'i8', data_type: DataType.Int8 },
      { name: 'i32', data_type: 'Int32' },
      { name: 'f', data_type: DataType.Float, nullable: true },
      { name: 's', data_type: DataType.VarChar, max_length: 20, default_value: 'none' },
      { name: 'j', data_type: DataType.JSON },
      { name: 'a', data_type: DataType.Array, element_type: DataType.Int64, max_capacity: 9 },
    ],
  }));
  const d = ok(await client.describeCollection({ collection_name }));
  assert.strictEqual(d.schema.name, collection_name);
  assert.strictEqual(d.schema.description, 'every type');
  assert.strictEqual(d.schema.enable_dynamic_field, true);
  assert.strictEqual(d.shards_num, 2);
  assert.strictEqual(d.consistency_level, 'Bounded');
  const by = Object.fromEntries(d.schema.fields.map(f => [f.name, f]));
  assert.deepStrictEqual(Object.keys(by).filter(k => k !== '$meta'),
    ['pk', 'vector', 'b', 'i8', 'i32', 'f', 's', 'j', 'a']);
  assert.strictEqual(by.pk.is_primary_key, true);
  assert.strictEqual(by.pk.description, 'key');
  assert.strictEqual(by.f.nullable, true);
  assert.strictEqual(by.a.element_type, 'Int64');
  assert.deepStrictEqual(by.vector.type_params, [{ key: 'dim', value: String(DIM) }]);
  assert.strictEqual(await client.getPkFieldName({ collection_name }), 'pk');
  assert.strictEqual(await client.getPkFieldType({ collection_name }), 'VarChar');
  ok(await client.dropCollection({ collection_name }));
});

test('has, list, rename, drop', async () => {
  const before = fresh('old');
  const after = fresh('new');
  await make(client, before, simpleRows(3));
  ok(await client.renameCollection({ collection_name: before, new_collection_name: after }));
  assert.strictEqual(ok(await client.hasCollection({ collection_name: before })).value, false);
  assert.strictEqual(ok(await client.hasCollection({ collection_name: after })).value, true);
  const listed = ok(await client.showCollections()).data.map(c => c.name);
  assert.ok(listed.includes(after) && !listed.includes(before));
  assert.strictEqual(ok(await client.count({ collection_name: after })).data, 3);
  ok(await client.dropCollection({ collection_name: after }));
  assert.strictEqual(ok(await client.hasCollection({ collection_name: after })).value, false);
  ok(await client.dropCollection({ collection_name: after }));
});

test('many collections are described in one request', async t => {
  if (!client.batchDescribeCollections) return t.skip('not in this SDK');
  const both = [fresh('one'), fresh('two')];
  for (const name of both) await make(client, name);
  const d = ok(await client.batchDescribeCollections({ collection_names: both }));
  assert.deepStrictEqual(d.responses.map(r => r.collection_name).sort(), [...both].sort());
  for (const collection_name of both) ok(await client.dropCollection({ collection_name }));
});

test('indexes are created, described, listed, dropped', async () => {
  const collection_name = fresh('index');
  ok(await client.createCollection({
    collection_name,
    fields: [
      { name: 'id', data_type: DataType.Int64, is_primary_key: true },
      { name: 'vector', data_type: DataType.FloatVector, dim: DIM },
      { name: 'colour', data_type: DataType.VarChar, max_length: 32 },
    ],
  }));
  await refused(client.loadCollectionSync({ collection_name }), /index/i);
  ok(await client.createIndex({
    collection_name, field_name: 'vector', index_name: 'of_vector', index_type: 'HNSW',
    metric_type: 'IP', params: { M: 16, efConstruction: 100 },
  }));
  ok(await client.createIndex({
    collection_name, field_name: 'colour', index_name: 'of_colour', index_type: 'INVERTED',
  }));
  const listed = ok(await client.listIndexes({ collection_name })).indexes;
  assert.deepStrictEqual([...listed].sort(), ['of_colour', 'of_vector']);
  const [d] = ok(await client.describeIndex({ collection_name, index_name: 'of_vector' })).index_descriptions;
  assert.strictEqual(d.field_name, 'vector');
  assert.strictEqual(d.state, 'Finished');
  const params = Object.fromEntries(d.params.map(p => [p.key, p.value]));
  assert.strictEqual(params.index_type, 'HNSW');
  assert.strictEqual(params.metric_type, 'IP');
  assert.deepStrictEqual(params.params ? JSON.parse(params.params) : { M: Number(params.M), efConstruction:
    Number(params.efConstruction) }, { M: 16, efConstruction: 100 });
  assert.strictEqual(ok(await client.getIndexState({ collection_name, index_name: 'of_vector' })).state, 'Finished');
  if (client.getIndexStatistics) ok(await client.getIndexStatistics({ collection_name, index_name: 'of_vector' }));
  ok(await client.getIndexBuildProgress({ collection_name, index_name: 'of_vector' }));
  ok(await client.alterIndexProperties({ collection_name, index_name: 'of_vector', params: { 'mmap.enabled': true } }));
  ok(await client.dropIndex({ collection_name, index_name: 'of_colour' }));
  assert.deepStrictEqual(ok(await client.listIndexes({ collection_name })).indexes, ['of_vector']);
  ok(await client.dropCollection({ collection_name }));
});

test('a collection is loaded, released, loaded again', async () => {
  const collection_name = fresh('load');
  const rows = simpleRows(20);
  await make(client, collection_name, rows);
  assert.strictEqual(ok(await client.getLoadState({ collection_name })).state, 'LoadStateLoaded');
  assert.strictEqual(Number(ok(await client.getLoadingProgress({ collection_name })).progress), 100);
  ok(await client.releaseCollection({ collection_name }));
  assert.strictEqual(ok(await client.getLoadState({ collection_name })).state, 'LoadStateNotLoad');
  await refused(client.search({ collection_name, data: rows[0].vector, limit: 1 }), /not loaded/);
  ok(await client.loadCollection({ collection_name }));
  const found = ok(await client.search({ collection_name, data: rows[0].vector, limit: 3 }));
  assert.deepStrictEqual(ids(found.results), nearest(rows, rows[0].vector).slice(0, 3).map(r => r.id));
  ok(await client.refreshLoad({ collection_name }));
  ok(await client.dropCollection({ collection_name }));
});

test('flush and statistics', async () => {
  const collection_name = fresh('stats');
  await make(client, collection_name, simpleRows(30));
  ok(await client.flush({ collection_names: [collection_name] }));
  ok(await client.flushSync({ collection_names: [collection_name] }));
  const stats = ok(await client.getCollectionStatistics({ collection_name }));
  assert.strictEqual(stats.data.row_count, '30');
  ok(await client.compact({ collection_name }));
  if (client.flushAllSync) ok(await client.flushAllSync());
  const segments = ok(await client.getPersistentSegmentInfo({ collectionName: collection_name }));
  assert.strictEqual(segments.infos.reduce((n, s) => n + Number(s.num_rows), 0), 30);
  ok(await client.dropCollection({ collection_name }));
});

test('an alias names one collection, then another', async () => {
  const [one, two, alias] = [fresh('one'), fresh('two'), fresh('alias')];
  await make(client, one, simpleRows(1));
  await make(client, two, simpleRows(2));
  ok(await client.createAlias({ collection_name: one, alias }));
  assert.strictEqual(ok(await client.count({ collection_name: alias })).data, 1);
  assert.strictEqual(ok(await client.describeAlias({ collection_name: one, alias })).collection, one);
  assert.deepStrictEqual(ok(await client.listAliases({ collection_name: one })).aliases, [alias]);
  await refused(client.createAlias({ collection_name: two, alias }), /alias/i);
  ok(await client.alterAlias({ collection_name: two, alias }));
  assert.strictEqual(ok(await client.count({ collection_name: alias })).data, 2);
  await refused(client.dropCollection({ collection_name: two }), /alias/i);
  ok(await client.dropAlias({ alias }));
  await refused(client.describeAlias({ collection_name: two, alias }), /alias/i);
  for (const collection_name of [one, two]) ok(await client.dropCollection({ collection_name }));
});

test('partitions are created, filled, loaded, dropped', async () => {
  const collection_name = fresh('partition');
  const rows = simpleRows(20);
  await make(client, collection_name, rows.slice(0, 10));
  ok(await client.createPartition({ collection_name, partition_name: 'p' }));
  assert.strictEqual(ok(await client.hasPartition({ collection_name, partition_name: 'p' })).value, true);
  assert.strictEqual(ok(await client.hasPartition({ collection_name, partition_name: 'q' })).value, false);
  assert.deepStrictEqual(ok(await client.listPartitions({ collection_name })).partition_names.sort(),
    ['_default', 'p']);
  ok(await client.insert({ collection_name, partition_name: 'p', data: rows.slice(10) }));
  const found = ok(await client.search({
    collection_name, data: rows[0].vector, limit: 4, partition_names: ['p'],
  }));
  assert.deepStrictEqual(ids(found.results), nearest(rows.slice(10), rows[0].vector).slice(0, 4).map(r => r.id));
  ok(await client.flushSync({ collection_names: [collection_name] }));
  assert.strictEqual(ok(await client.getPartitionStatistics({ collection_name, partition_name: 'p' })).data.row_count, '10');
  ok(await client.releasePartitions({ collection_name, partition_names: ['p'] }));
  await refused(client.query({ collection_name, filter: 'id >= 0', limit: 5, partition_names: ['p'] }), /not loaded/);
  ok(await client.loadPartitionsSync({ collection_name, partition_names: ['p'] }));
  ok(await client.releasePartitions({ collection_name, partition_names: ['p'] }));
  ok(await client.dropPartition({ collection_name, partition_name: 'p' }));
  assert.strictEqual(ok(await client.count({ collection_name })).data, 10);
  ok(await client.dropCollection({ collection_name }));
});

test('properties are altered and dropped', async () => {
  const collection_name = fresh('alter');
  await make(client, collection_name);
  const property = async key => {
    const d = ok(await client.describeCollection({ collection_name }));
    return d.properties.filter(p => p.key === key).map(p => p.value);
  };
  ok(await client.alterCollectionProperties({ collection_name, properties: { 'collection.ttl.seconds': 3600 } }));
  assert.deepStrictEqual(await property('collection.ttl.seconds'), ['3600']);
  ok(await client.dropCollectionProperties({ collection_name, properties: ['collection.ttl.seconds'] }));
  assert.deepStrictEqual(await property('collection.ttl.seconds'), []);
  ok(await client.alterCollectionFieldProperties({ collection_name, field_name: 'colour', properties: { max_length: 64 } }));
  ok(await client.dropCollection({ collection_name }));
});

test('a field is added to a collection with rows', async () => {
  const collection_name = fresh('add_field');
  await make(client, collection_name, simpleRows(3));
  ok(await client.addCollectionField({
    collection_name, field: { name: 'later', data_type: DataType.Int64, nullable: true },
  }));
  /* The 2.6 SDK remembers the definition that it inserted by; a new client asks for it. */
  const other = connect();
  ok(await other.insert({ collection_name, data: simpleRows(1, { first: 3 }).map(r => ({ ...r, later: 7 })) }));
  const all = ok(await client.query({ collection_name, filter: 'id >= 0', output_fields: ['later'], limit: 10 })).data;
  const later = Object.fromEntries(all.map(r => [r.id, r.later]));
  assert.deepStrictEqual(later, { 0: null, 1: null, 2: null, 3: '7' });
  ok(await client.dropCollection({ collection_name }));
});
