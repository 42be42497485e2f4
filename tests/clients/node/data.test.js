/* Rows: insert, query, get, count, upsert, delete, every data type. */
'use strict';

const { DIM, DataType, assert, close, connect, fresh, make, ok, refused, simpleRows, test, vectors } =
  require('./support');

const client = connect();

test('automatic ids are given and found again', async () => {
  const collection_name = fresh('auto');
  ok(await client.createCollection({
    collection_name, dimension: DIM, auto_id: true, metric_type: 'L2', consistency_level: 'Strong',
  }));
  const rows = vectors(10, 5).map((vector, n) => ({ vector, n }));
  const inserted = ok(await client.insert({ collection_name, data: rows }));
  const given = inserted.IDs.int_id.data;
  assert.strictEqual(new Set(given).size, 10);
  const found = ok(await client.get({ collection_name, ids: given, output_fields: ['n', 'vector'] })).data;
  assert.strictEqual(found.length, 10);
  for (const row of found) {
    const n = given.indexOf(row.id);
    assert.deepStrictEqual(row.$meta, { n });
    row.vector.forEach((x, i) => close(x, rows[n].vector[i]));
  }
  ok(await client.dropCollection({ collection_name }));
});

test('every served scalar and vector type comes back as it was sent', async () => {
  const collection_name = fresh('types');
  const field = (name, data_type, more = {}) => ({ name, data_type, ...more });
  ok(await client.createCollection({
    collection_name,
    consistency_level: 'Strong',
    enable_dynamic_field: true,
    fields: [
      field('pk', DataType.VarChar, { is_primary_key: true, max_length: 64 }),
      field('vector', DataType.FloatVector, { dim: 4 }),
      field('binary', DataType.BinaryVector, { dim: 16 }),
      field('half', DataType.Float16Vector, { dim: 4 }),
      field('brain', DataType.BFloat16Vector, { dim: 4 }),
      field('b', DataType.Bool),
      field('i8', DataType.Int8),
      field('i16', DataType.Int16),
      field('i32', DataType.Int32),
      field('i64', DataType.Int64),
      field('f', DataType.Float),
      field('d', DataType.Double),
      field('s', DataType.VarChar, { max_length: 100, nullable: true }),
      field('def', DataType.Int64, { default_value: 42 }),
      field('j', DataType.JSON),
      field('ai', DataType.Array, { element_type: DataType.Int32, max_capacity: 8 }),
      field('as', DataType.Array, { element_type: DataType.VarChar, max_capacity: 8, max_length: 20 }),
      field('ab', DataType.Array, { element_type: DataType.Bool, max_capacity: 8 }),
      field('ad', DataType.Array, { element_type: DataType.Double, max_capacity: 8 }),
    ],
    index_params: ['vector', 'half', 'brain'].map(f => ({ field_name: f, index_type: 'FLAT', metric_type: 'L2' }))
      .concat([{ field_name: 'binary', index_type: 'BIN_FLAT', metric_type: 'HAMMING' }]),
  }));
  ok(await client.loadCollectionSync({ collection_name }));
  const row = {
    pk: 'é-1', vector: [1, 2, 3, 4], binary: [0xa5, 0x0f], half: [1, 0.5, -2, 0.25], brain: [1, 2, -4, 0.5],
    b: true, i8: -128, i16: 32767, i32: -2147483648, i64: '9007199254740993', f: 0.5, d: 1e300,
    s: null, j: { a: [1, { b: 'x' }], n: null, t: true }, ai: [1, -2, 3], as: ['x', '', 'ü'], ab: [true, false],
    ad: [0.1, -1e-9], extra: { deep: [1, 2] }, more: 'dynamic',
  };
  ok(await client.insert({ collection_name, data: [row, { ...row, pk: 'two', s: 'here', def: 7, b: false, ai: [] }] }));
  const found = ok(await client.get({ collection_name, ids: ['é-1', 'two'], output_fields: ['*'] })).data;
  const one = found.find(r => r.pk === 'é-1');
  const two = found.find(r => r.pk === 'two');
  const { $meta, ...rest } = one;
  const plain = Object.fromEntries(Object.entries(rest).map(([k, v]) =>
    [k, v && v.BYTES_PER_ELEMENT || Buffer.isBuffer(v) ? [...v] : v]));
  const wanted = { ...row, def: '42' };
  if ($meta !== undefined) { delete wanted.extra; delete wanted.more; }
  assert.deepStrictEqual(plain, wanted);
  assert.strictEqual(two.s, 'here');
  assert.strictEqual(two.def, '7');
  assert.strictEqual(two.b, false);
  assert.deepStrictEqual(two.ai, []);
  const byDynamic = ok(await client.query({
    collection_name, filter: 'more == "dynamic" and extra["deep"][1] == 2', output_fields: ['more'], limit: 9,
  })).data;
  assert.deepStrictEqual(byDynamic.map(r => r.$meta), [{ more: 'dynamic' }, { more: 'dynamic' }]);
  ok(await client.dropCollection({ collection_name }));
});

test('queries filter, page and choose fields', async () => {
  const collection_name = fresh('query');
  const rows = simpleRows(40);
  await make(client, collection_name, rows);
  const query = async more => ok(await client.query({ collection_name, ...more })).data;
  const found = await query({ filter: 'colour == "red" and price < 10', output_fields: ['colour', 'price'], limit: 100 });
  const wanted = rows.filter(r => r.colour === 'red' && r.price < 10);
  assert.deepStrictEqual(found, wanted.map(r => ({ id: String(r.id), colour: r.colour, price: r.price })));
  assert.deepStrictEqual((await query({ expr: 'id in [3, 1, 99]', limit: 9 })).map(r => r.id), ['1', '3']);
  assert.deepStrictEqual((await query({ filter: 'id >= 0', offset: 5, limit: 3 })).map(r => r.id), ['5', '6', '7']);
  assert.deepStrictEqual((await query({ filter: 'colour like "gr%"', limit: 2 })).map(r => r.id), ['1', '4']);
  assert.deepStrictEqual(
    (await query({ filter: 'id in {ids} and colour == {c}', exprValues: { ids: [1, 2, 4, 7], c: 'green' }, limit: 9 }))
      .map(r => r.id), ['1', '4', '7']);
  assert.deepStrictEqual(await query({ ids: [2, 9], output_fields: ['price'] }),
    [{ id: '2', price: 1 }, { id: '9', price: 4.5 }]);
  assert.strictEqual(ok(await client.count({ collection_name })).data, 40);
  assert.strictEqual(ok(await client.count({ collection_name, expr: 'colour != "red"' })).data,
    rows.filter(r => r.colour !== 'red').length);
  ok(await client.dropCollection({ collection_name }));
});

test('upsert replaces rows and adds new ones', async () => {
  const collection_name = fresh('upsert');
  await make(client, collection_name, simpleRows(10));
  const changed = simpleRows(4, { first: 8, seed: 9 }).map(r => ({ ...r, colour: 'gold' }));
  const answer = ok(await client.upsert({ collection_name, data: changed }));
  assert.strictEqual(Number(answer.upsert_cnt), 4);
  assert.strictEqual(ok(await client.count({ collection_name })).data, 12);
  const gold = ok(await client.query({ collection_name, filter: 'colour == "gold"', limit: 99, output_fields: ['id'] }));
  assert.deepStrictEqual(gold.data.map(r => Number(r.id)), [8, 9, 10, 11]);
  ok(await client.dropCollection({ collection_name }));
});

test('a partial upsert keeps the other fields', async () => {
  const collection_name = fresh('partial');
  const rows = simpleRows(3);
  await make(client, collection_name, rows);
  ok(await client.upsert({ collection_name, data: [{ id: 1, colour: 'gold' }], partial_update: true }));
  const [row] = ok(await client.get({ collection_name, ids: [1], output_fields: ['*'] })).data;
  assert.strictEqual(row.colour, 'gold');
  assert.strictEqual(row.price, 0.5);
  row.vector.forEach((x, i) => close(x, rows[1].vector[i]));
  ok(await client.dropCollection({ collection_name }));
});

test('rows are deleted by ids and by filter', async () => {
  const collection_name = fresh('delete');
  await make(client, collection_name, simpleRows(30));
  assert.strictEqual(Number(ok(await client.delete({ collection_name, ids: [0, 3, 5] })).delete_cnt), 3);
  assert.strictEqual(ok(await client.count({ collection_name })).data, 27);
  ok(await client.delete({ collection_name, filter: 'price >= 10' }));
  ok(await client.deleteEntities({ collection_name, filter: 'id in {ids}', exprValues: { ids: [7, 8] } }));
  const left = ok(await client.query({ collection_name, filter: 'id >= 0', limit: 99 })).data.map(r => Number(r.id));
  assert.deepStrictEqual(left, [...Array(20).keys()].filter(i => ![0, 3, 5, 7, 8].includes(i)));
  ok(await client.flushSync({ collection_names: [collection_name] }));
  assert.strictEqual(ok(await client.count({ collection_name })).data, 15);
  ok(await client.dropCollection({ collection_name }));
});

test('text keys are deleted by ids', async () => {
  const collection_name = fresh('text_key');
  ok(await client.createCollection({
    collection_name, consistency_level: 'Strong',
    fields: [
      { name: 'id', data_type: DataType.VarChar, max_length: 16, is_primary_key: true },
      { name: 'vector', data_type: DataType.FloatVector, dim: DIM },
    ],
    index_params: [{ field_name: 'vector', index_type: 'AUTOINDEX', metric_type: 'L2' }],
  }));
  ok(await client.loadCollectionSync({ collection_name }));
  const data = vectors(4, 2).map((vector, i) => ({ id: `käy ${i}`, vector }));
  ok(await client.insert({ collection_name, data }));
  ok(await client.delete({ collection_name, ids: ['käy 1', 'käy 3'] }));
  const left = ok(await client.query({ collection_name, filter: 'id != ""', limit: 9 })).data.map(r => r.id);
  assert.deepStrictEqual(left, ['käy 0', 'käy 2']);
  ok(await client.dropCollection({ collection_name }));
});

test('a partition key spreads and finds rows', async () => {
  const collection_name = fresh('tenant');
  ok(await client.createCollection({
    collection_name, consistency_level: 'Strong', num_partitions: 4,
    fields: [
      { name: 'id', data_type: DataType.Int64, is_primary_key: true },
      { name: 'tenant', data_type: DataType.VarChar, max_length: 16, is_partition_key: true },
      { name: 'vector', data_type: DataType.FloatVector, dim: DIM },
    ],
    index_params: [{ field_name: 'vector', index_type: 'AUTOINDEX', metric_type: 'L2' }],
  }));
  ok(await client.loadCollectionSync({ collection_name }));
  const data = vectors(30, 8).map((vector, id) => ({ id, vector, tenant: `t${id % 5}` }));
  ok(await client.insert({ collection_name, data }));
  assert.strictEqual(ok(await client.listPartitions({ collection_name })).partition_names.length, 4);
  assert.strictEqual(ok(await client.count({ collection_name, expr: 'tenant == "t2"' })).data, 6);
  ok(await client.dropCollection({ collection_name }));
});

test('wrong rows are refused and leave nothing behind', async () => {
  const collection_name = fresh('wrong');
  await make(client, collection_name);
  const row = simpleRows(1)[0];
  const insert = data => client.insert({ collection_name, data });
  await refused(insert([{ ...row, vector: [1, 2, 3] }]), /dim/i);
  await refused(insert([{ ...row, colour: 'x'.repeat(33) }]), /length/i);
  await refused(insert([{ ...row, surplus: 1 }]), /surplus|dynamic|field/i);
  await refused(insert([]), /./);
  assert.strictEqual(ok(await client.count({ collection_name })).data, 0);
  ok(await client.dropCollection({ collection_name }));
});

test('a missing collection is named in the complaint', async () => {
  const collection_name = fresh('missing');
  const words = new RegExp(`${collection_name}|not found|not exist`, 'i');
  await refused(client.describeCollection({ collection_name }), words);
  await refused(client.insert({ collection_name, data: simpleRows(1) }), words);
  await refused(client.query({ collection_name, filter: 'id > 0', limit: 1 }), words);
  /* The SDK stumbles over the description that it does not get, before it asks for a search. */
  await assert.rejects(client.search({ collection_name, data: [1], limit: 1 }));
  await refused(client.loadCollection({ collection_name }), words);
  await refused(client.getCollectionStatistics({ collection_name }), words);
  const { status } = await client.describeCollection({ collection_name });
  assert.strictEqual(status.error_code, 'CollectionNotExists');
  assert.strictEqual(status.code, 100);
});
