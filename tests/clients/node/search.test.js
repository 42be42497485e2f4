/* Searches of every kind, hybrid searches and iterators, against what is computed here. */
'use strict';

const { COLOURS, DIM, DataType, assert, close, connect, distance, fresh, ids, make, nearest, ok, refused, sdk,
  simpleRows, test, vectors } = require('./support');

const client = connect();
const rows = simpleRows(200);
const collection_name = fresh('search');
const queries = vectors(3, 77);
const ready = make(client, collection_name, rows);
const search = async more => {
  await ready;
  return ok(await client.search({ collection_name, ...more }));
};

test('a search finds the nearest rows with their distances', async () => {
  const found = await search({ data: queries[0], limit: 10, output_fields: ['id', 'colour', 'price', 'vector'] });
  const wanted = nearest(rows, queries[0]).slice(0, 10);
  assert.deepStrictEqual(ids(found.results), wanted.map(r => r.id));
  found.results.forEach((h, i) => {
    close(h.score, distance(wanted[i].vector, queries[0]));
    assert.strictEqual(h.colour, wanted[i].colour);
    assert.strictEqual(h.price, wanted[i].price);
    h.vector.forEach((x, k) => close(x, wanted[i].vector[k]));
  });
});

test('a filter decides which rows are candidates', async () => {
  const found = await search({ data: queries[0], limit: 7, filter: 'colour in ["red", "blue"] and price > 20' });
  const wanted = nearest(rows.filter(r => r.colour !== 'green' && r.price > 20), queries[0]);
  assert.deepStrictEqual(ids(found.results), wanted.slice(0, 7).map(r => r.id));
  const templated = await search({
    data: queries[0], limit: 7, filter: 'colour in {c} and price > {p}', exprValues: { c: ['red', 'blue'], p: 20 },
  });
  assert.deepStrictEqual(ids(templated.results), ids(found.results));
});

test('many vectors are searched at once', async () => {
  const found = await search({ data: queries, limit: 4 });
  assert.strictEqual(found.results.length, 3);
  found.results.forEach((hits, q) => {
    assert.deepStrictEqual(ids(hits), nearest(rows, queries[q]).slice(0, 4).map(r => r.id));
  });
});

test('offset, limit beyond the rows, a range of distances', async () => {
  const wanted = nearest(rows, queries[1]).map(r => r.id);
  assert.deepStrictEqual(ids((await search({ data: queries[1], limit: 5, offset: 5 })).results), wanted.slice(5, 10));
  assert.deepStrictEqual(ids((await search({ data: queries[1], limit: 1000 })).results), wanted);
  const within = rows.filter(r => distance(r.vector, queries[1]) < 0.6);
  const found = await search({ data: queries[1], limit: 1000, params: { radius: 0.6, range_filter: 0 } });
  assert.deepStrictEqual(ids(found.results), nearest(within, queries[1]).map(r => r.id));
});

test('one hit a group', async () => {
  const found = await search({ data: queries[0], limit: 3, group_by_field: 'colour', output_fields: ['id', 'colour'] });
  const wanted = COLOURS.map(c => nearest(rows.filter(r => r.colour === c), queries[0])[0]);
  assert.deepStrictEqual(ids(found.results), nearest(wanted, queries[0]).map(r => r.id));
});

test('the older shape of a request still works', async () => {
  const found = await search({
    vectors: [queries[2]], vector_type: DataType.FloatVector, expr: 'id < 50',
    search_params: { anns_field: 'vector', topk: 3, metric_type: 'L2', params: JSON.stringify({ nprobe: 8 }) },
  });
  const wanted = nearest(rows.slice(0, 50), queries[2]).slice(0, 3).map(r => r.id);
  assert.deepStrictEqual(ids(found.results), wanted);
});

test('wrong searches are refused', async () => {
  await ready;
  await refused(client.search({ collection_name, data: [1, 2, 3], limit: 3 }), /dim/i);
  await refused(client.search({ collection_name, data: queries[0], limit: 3, filter: 'colour ==' }), /expr|filter|pars/i);
  await refused(client.search({ collection_name, data: queries[0], limit: 3, filter: 'nothing == 1' }), /nothing|field/);
  await refused(client.search({ collection_name, data: queries[0], limit: 3, metric_type: 'IP' }), /metric/i);
  await refused(client.search({ collection_name, data: queries[0], limit: 3, output_fields: ['nothing'] }), /nothing/);
});

test('a query iterator gives each row once', async () => {
  await ready;
  const seen = [];
  const it = await client.queryIterator({
    collection_name, filter: 'price < 80', batchSize: 33, output_fields: ['id', 'price'],
  });
  for await (const batch of it) {
    assert.ok(batch.length <= 33);
    seen.push(...batch.map(r => Number(r.id)));
  }
  assert.deepStrictEqual(seen, rows.filter(r => r.price < 80).map(r => r.id));
});

test('a query iterator stops at its limit', async () => {
  await ready;
  let count = 0;
  const it = await client.queryIterator({ collection_name, expr: 'id >= 0', batchSize: 7, limit: 20, output_fields: ['id'] });
  for await (const batch of it) count += batch.length;
  assert.strictEqual(count, 20);
});

test('a search iterator gives the whole ranking', async () => {
  await ready;
  const seen = [];
  const it = await client.searchIterator({
    collection_name, data: queries[0], batchSize: 30, limit: 150, output_fields: ['id', 'colour'], filter: 'id < 180',
  });
  for await (const batch of it) seen.push(...ids(batch));
  assert.deepStrictEqual(seen, nearest(rows.slice(0, 180), queries[0]).slice(0, 150).map(r => r.id));
});

test('the answers are the same after a flush and a reload', async () => {
  await ready;
  ok(await client.flushSync({ collection_names: [collection_name] }));
  ok(await client.releaseCollection({ collection_name }));
  ok(await client.loadCollectionSync({ collection_name }));
  const found = await search({ data: queries[0], limit: 10 });
  assert.deepStrictEqual(ids(found.results), nearest(rows, queries[0]).slice(0, 10).map(r => r.id));
  ok(await client.dropCollection({ collection_name }));
});

test('a hybrid search fuses two rankings', async () => {
  const name = fresh('hybrid');
  ok(await client.createCollection({
    collection_name: name, consistency_level: 'Strong',
    fields: [
      { name: 'id', data_type: DataType.Int64, is_primary_key: true },
      { name: 'first', data_type: DataType.FloatVector, dim: DIM },
      { name: 'second', data_type: DataType.FloatVector, dim: 4 },
    ],
    index_params: ['first', 'second'].map(f => ({ field_name: f, index_type: 'FLAT', metric_type: 'L2' })),
  }));
  ok(await client.loadCollectionSync({ collection_name: name }));
  const first = vectors(60, 11);
  const second = vectors(60, 12, 4);
  const data = first.map((v, id) => ({ id, first: v, second: second[id] }));
  ok(await client.insert({ collection_name: name, data }));
  const [q1] = vectors(1, 13);
  const [q2] = vectors(1, 14, 4);
  const ask = async rerank => ok(await client.hybridSearch({
    collection_name: name, limit: 6, output_fields: ['id'], rerank,
    data: [
      { anns_field: 'first', data: q1, params: { nprobe: 8 } },
      { anns_field: 'second', data: q2 },
    ],
  })).results;

  /* Each part contributes as many hits as the whole asks for. */
  const score = new Map();
  for (const [field, q] of [['first', q1], ['second', q2]])
    nearest(data, q, field).slice(0, 6).forEach((r, i) => score.set(r.id, (score.get(r.id) || 0) + 1 / (60 + i + 1)));
  const wanted = [...score.values()].sort((a, b) => b - a).slice(0, 6);
  const fused = await ask(sdk.RRFRanker(60));
  assert.strictEqual(fused.length, 6);
  fused.forEach((h, i) => {
    close(h.score, wanted[i], 1e-5);
    close(h.score, score.get(Number(h.id)), 1e-5);
  });
  const weighted = await ask(sdk.WeightedRanker([1, 0]));
  assert.deepStrictEqual(ids(weighted).slice(0, 3), nearest(data, q1, 'first').slice(0, 3).map(r => r.id));
  ok(await client.dropCollection({ collection_name: name }));
});
