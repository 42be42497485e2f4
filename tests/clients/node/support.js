/* What the flows share: the SDK under test, a client, rows whose answers can be computed here. */
'use strict';

const assert = require('node:assert');
const { after, test } = require('node:test');

const sdk = require(process.env.NODE_SDK || 'milvus-2.6');
const { DataType, MilvusClient } = sdk;
const address = process.env.ELANUS_ADDRESS;

const DIM = 8;

/* The SDK answers failures with a status rather than an exception. */
function ok(answer) {
  const status = answer.status || answer;
  assert.strictEqual(status.error_code, 'Success', status.reason);
  return answer;
}

/* Fails by an exception or by a status; either way with words that match. */
async function refused(promise, words) {
  let why;
  try {
    const answer = await promise;
    const status = answer.status || answer;
    assert.notStrictEqual(status.error_code, 'Success', 'this should have been refused');
    why = status.reason;
  } catch (e) {
    if (e.code === 'ERR_ASSERTION') throw e;
    /* Some calls throw the answer that they stumbled over. */
    why = e.status ? e.status.reason : e.message;
  }
  assert.match(why, words);
}

function connect(more = {}) {
  const client = new MilvusClient({ address, ...more });
  after(() => client.closeConnection());
  return client;
}

let names = 0;
function fresh(what) {
  return `node_${what}_${process.pid}_${++names}`;
}

/* A generator with a seed, so that each run sees the same rows. */
function vectors(count, seed, dim = DIM) {
  let x = seed >>> 0;
  const next = () => {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    return x / 2 ** 32 - 0.5;
  };
  return Array.from({ length: count }, () => Float32Array.from({ length: dim }, next)).map(v => [...v]);
}

function distance(a, b) {
  return a.reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0);
}

/* The rows nearest to `query`, nearest first. */
function nearest(rows, query, field = 'vector') {
  return [...rows].sort((a, b) => distance(a[field], query) - distance(b[field], query));
}

function close(got, wanted, tolerance = 1e-4) {
  assert.ok(Math.abs(got - wanted) <= tolerance * Math.max(1, Math.abs(wanted)), `${got} != ${wanted}`);
}

const COLOURS = ['red', 'green', 'blue'];

function simpleRows(count, { first = 0, seed = 1 } = {}) {
  return vectors(count, seed).map((vector, i) => ({
    id: first + i, vector, colour: COLOURS[(first + i) % 3], price: (first + i) * 0.5,
  }));
}

/* A collection with an id, a vector and two scalars, its index and, with rows, its data. */
async function make(client, name, rows = [], more = {}) {
  ok(await client.createCollection({
    collection_name: name,
    fields: [
      { name: 'id', data_type: DataType.Int64, is_primary_key: true },
      { name: 'vector', data_type: DataType.FloatVector, dim: DIM },
      { name: 'colour', data_type: DataType.VarChar, max_length: 32 },
      { name: 'price', data_type: DataType.Double },
    ],
    consistency_level: 'Strong',
    index_params: [{ field_name: 'vector', index_type: 'AUTOINDEX', metric_type: 'L2' }],
    ...more,
  }));
  ok(await client.loadCollectionSync({ collection_name: name }));
  if (rows.length > 0) {
    const answer = ok(await client.insert({ collection_name: name, data: rows }));
    assert.strictEqual(Number(answer.insert_cnt), rows.length);
  }
}

const ids = hits => hits.map(h => Number(h.id));

module.exports = {
  COLOURS, DIM, DataType, MilvusClient, address, assert, close, connect, distance, fresh, ids, make,
  nearest, ok, refused, sdk, simpleRows, test, vectors,
};
