// The public Go SDK of Milvus against Elanus: what its quick start and everyday documentation do,
// with answers computed here.
package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/milvus-io/milvus/client/v2/column"
	"github.com/milvus-io/milvus/client/v2/entity"
	"github.com/milvus-io/milvus/client/v2/index"
	"github.com/milvus-io/milvus/client/v2/milvusclient"
)

const dim = 8

var (
	colours = []string{"red", "green", "blue"}
	names   = 0
)

func open(t *testing.T, database string) (context.Context, *milvusclient.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	c, err := milvusclient.New(ctx, &milvusclient.ClientConfig{
		Address: os.Getenv("ELANUS_ADDRESS"), DBName: database,
	})
	ok(t, err)
	t.Cleanup(func() { c.Close(context.Background()) })
	return ctx, c
}

func fresh(what string) string {
	names++
	return fmt.Sprintf("go_%s_%d", what, names)
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("this should have been refused")
	}
	for _, w := range words {
		if strings.Contains(strings.ToLower(err.Error()), w) {
			return
		}
	}
	t.Fatalf("%q does not say any of %q", err, words)
}

func equal[T comparable](t *testing.T, got, wanted []T) {
	t.Helper()
	if !slices.Equal(got, wanted) {
		t.Fatalf("got %v, wanted %v", got, wanted)
	}
}

func must(t *testing.T, good bool, what string) {
	t.Helper()
	if !good {
		t.Fatal(what)
	}
}

type rows struct {
	ids     []int64
	vectors [][]float32
	colours []string
	prices  []float64
}

func makeRows(first, count int, seed int64) rows {
	r := rand.New(rand.NewSource(seed))
	var got rows
	for i := first; i < first+count; i++ {
		v := make([]float32, dim)
		for k := range v {
			v[k] = r.Float32() - 0.5
		}
		got.ids = append(got.ids, int64(i))
		got.vectors = append(got.vectors, v)
		got.colours = append(got.colours, colours[i%3])
		got.prices = append(got.prices, float64(i)*0.5)
	}
	return got
}

func distance(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		sum += d * d
	}
	return sum
}

// Ids of the rows that pass, nearest first.
func (r rows) nearest(query []float32, limit int, pass func(i int) bool) []int64 {
	var at []int
	for i := range r.ids {
		if pass(i) {
			at = append(at, i)
		}
	}
	sort.Slice(at, func(a, b int) bool {
		return distance(r.vectors[at[a]], query) < distance(r.vectors[at[b]], query)
	})
	var ids []int64
	for _, i := range at[:min(limit, len(at))] {
		ids = append(ids, r.ids[i])
	}
	return ids
}

func every(int) bool { return true }

func (r rows) option(name string) milvusclient.InsertOption {
	return milvusclient.NewColumnBasedInsertOption(name).WithInt64Column("id", r.ids).
		WithFloatVectorColumn("vector", dim, r.vectors).WithVarcharColumn("colour", r.colours).
		WithColumns(column.NewColumnDouble("price", r.prices))
}

func fill(t *testing.T, ctx context.Context, c *milvusclient.Client, name string, r rows) {
	t.Helper()
	schema := entity.NewSchema().
		WithField(entity.NewField().WithName("id").WithDataType(entity.FieldTypeInt64).WithIsPrimaryKey(true)).
		WithField(entity.NewField().WithName("vector").WithDataType(entity.FieldTypeFloatVector).WithDim(dim)).
		WithField(entity.NewField().WithName("colour").WithDataType(entity.FieldTypeVarChar).WithMaxLength(32)).
		WithField(entity.NewField().WithName("price").WithDataType(entity.FieldTypeDouble))
	ok(t, c.CreateCollection(ctx, milvusclient.NewCreateCollectionOption(name, schema).
		WithConsistencyLevel(entity.ClStrong).
		WithIndexOptions(milvusclient.NewCreateIndexOption(name, "vector", index.NewAutoIndex(entity.L2)))))
	load(t, ctx, c, name)
	if len(r.ids) > 0 {
		done, err := c.Insert(ctx, r.option(name))
		ok(t, err)
		must(t, done.InsertCount == int64(len(r.ids)), "not all rows were inserted")
	}
}

func load(t *testing.T, ctx context.Context, c *milvusclient.Client, name string) {
	t.Helper()
	task, err := c.LoadCollection(ctx, milvusclient.NewLoadCollectionOption(name))
	ok(t, err)
	ok(t, task.Await(ctx))
}

func count(t *testing.T, ctx context.Context, c *milvusclient.Client, name, filter string) int64 {
	t.Helper()
	got, err := c.Query(ctx, milvusclient.NewQueryOption(name).WithFilter(filter).WithOutputFields("count(*)").
		WithConsistencyLevel(entity.ClStrong))
	ok(t, err)
	n, err := got.GetColumn("count(*)").GetAsInt64(0)
	ok(t, err)
	return n
}

func drop(t *testing.T, ctx context.Context, c *milvusclient.Client, name string) {
	t.Helper()
	ok(t, c.DropCollection(ctx, milvusclient.NewDropCollectionOption(name)))
}

func ids(t *testing.T, c column.Column) []int64 {
	t.Helper()
	got, good := c.(*column.ColumnInt64)
	must(t, good, "ids are not of type Int64")
	return got.Data()
}

func TestVersionAndDatabases(t *testing.T) {
	ctx, c := open(t, "")
	version, err := c.GetServerVersion(ctx, milvusclient.NewGetServerVersionOption())
	ok(t, err)
	must(t, version != "", "no version")
	db, name := fresh("db"), fresh("in_db")
	ok(t, c.CreateDatabase(ctx, milvusclient.NewCreateDatabaseOption(db)))
	all, err := c.ListDatabase(ctx, milvusclient.NewListDatabaseOption())
	ok(t, err)
	must(t, slices.Contains(all, db), "the database is not listed")
	_, inside := open(t, db)
	fill(t, ctx, inside, name, makeRows(0, 5, 1))
	has, err := c.HasCollection(ctx, milvusclient.NewHasCollectionOption(name))
	ok(t, err)
	must(t, !has, "the collection is in the default database")
	ok(t, c.UseDatabase(ctx, milvusclient.NewUseDatabaseOption(db)))
	must(t, count(t, ctx, c, name, "") == 5, "rows are missing")
	refused(t, c.DropDatabase(ctx, milvusclient.NewDropDatabaseOption(db)), "not empty", "collection")
	drop(t, ctx, c, name)
	ok(t, c.UseDatabase(ctx, milvusclient.NewUseDatabaseOption("default")))
	ok(t, c.DropDatabase(ctx, milvusclient.NewDropDatabaseOption(db)))
}

func TestCollections(t *testing.T) {
	ctx, c := open(t, "")
	before, after, alias := fresh("old"), fresh("new"), fresh("alias")
	fill(t, ctx, c, before, makeRows(0, 30, 1))
	ok(t, c.RenameCollection(ctx, milvusclient.NewRenameCollectionOption(before, after)))
	all, err := c.ListCollections(ctx, milvusclient.NewListCollectionOption())
	ok(t, err)
	must(t, slices.Contains(all, after) && !slices.Contains(all, before), "not renamed")
	d, err := c.DescribeCollection(ctx, milvusclient.NewDescribeCollectionOption(after))
	ok(t, err)
	must(t, d.Name == after && d.Schema.PKFieldName() == "id" && len(d.Schema.Fields) == 4, "described otherwise")
	ok(t, c.CreateAlias(ctx, milvusclient.NewCreateAliasOption(after, alias)))
	must(t, count(t, ctx, c, alias, "") == 30, "the alias has other rows")
	ok(t, c.DropAlias(ctx, milvusclient.NewDropAliasOption(alias)))

	flush, err := c.Flush(ctx, milvusclient.NewFlushOption(after))
	ok(t, err)
	ok(t, flush.Await(ctx))
	stats, err := c.GetCollectionStats(ctx, milvusclient.NewGetCollectionStatsOption(after))
	ok(t, err)
	must(t, stats["row_count"] == "30", "row count "+stats["row_count"])
	indexes, err := c.ListIndexes(ctx, milvusclient.NewListIndexOption(after))
	ok(t, err)
	equal(t, indexes, []string{"vector"})
	i, err := c.DescribeIndex(ctx, milvusclient.NewDescribeIndexOption(after, "vector"))
	ok(t, err)
	must(t, i.Params()["metric_type"] == "L2", "another metric")

	ok(t, c.ReleaseCollection(ctx, milvusclient.NewReleaseCollectionOption(after)))
	state, err := c.GetLoadState(ctx, milvusclient.NewGetLoadStateOption(after))
	ok(t, err)
	must(t, state.State == entity.LoadStateNotLoad, "still loaded")
	load(t, ctx, c, after)
	must(t, count(t, ctx, c, after, "") == 30, "rows are missing after the load")
	drop(t, ctx, c, after)
}

func TestPartitions(t *testing.T) {
	ctx, c := open(t, "")
	name := fresh("partition")
	r, more := makeRows(0, 10, 1), makeRows(10, 10, 2)
	fill(t, ctx, c, name, r)
	ok(t, c.CreatePartition(ctx, milvusclient.NewCreatePartitionOption(name, "p")))
	parts, err := c.ListPartitions(ctx, milvusclient.NewListPartitionOption(name))
	ok(t, err)
	slices.Sort(parts)
	equal(t, parts, []string{"_default", "p"})
	_, err = c.Insert(ctx, milvusclient.NewColumnBasedInsertOption(name).WithPartition("p").
		WithInt64Column("id", more.ids).WithFloatVectorColumn("vector", dim, more.vectors).
		WithVarcharColumn("colour", more.colours).WithColumns(column.NewColumnDouble("price", more.prices)))
	ok(t, err)
	q := r.vectors[0]
	found, err := c.Search(ctx, milvusclient.NewSearchOption(name, 4, []entity.Vector{entity.FloatVector(q)}).
		WithPartitions("p"))
	ok(t, err)
	equal(t, ids(t, found[0].IDs), more.nearest(q, 4, every))
	ok(t, c.ReleasePartitions(ctx, milvusclient.NewReleasePartitionsOptions(name, "p")))
	ok(t, c.DropPartition(ctx, milvusclient.NewDropPartitionOption(name, "p")))
	must(t, count(t, ctx, c, name, "") == 10, "other rows are left")
	drop(t, ctx, c, name)
}

func TestSearches(t *testing.T) {
	ctx, c := open(t, "")
	name := fresh("search")
	r := makeRows(0, 200, 1)
	fill(t, ctx, c, name, r)
	q := makeRows(0, 2, 77).vectors
	found, err := c.Search(ctx, milvusclient.NewSearchOption(name, 10,
		[]entity.Vector{entity.FloatVector(q[0]), entity.FloatVector(q[1])}).WithOutputFields("colour", "price"))
	ok(t, err)
	for i := range q {
		got := ids(t, found[i].IDs)
		equal(t, got, r.nearest(q[i], 10, every))
		for k, id := range got {
			must(t, distance(r.vectors[id], q[i])-float64(found[i].Scores[k]) < 1e-4, "another distance")
			colour, err := found[i].GetColumn("colour").GetAsString(k)
			ok(t, err)
			must(t, colour == r.colours[id], "another colour")
		}
	}
	found, err = c.Search(ctx, milvusclient.NewSearchOption(name, 7, []entity.Vector{entity.FloatVector(q[0])}).
		WithFilter("colour in {c} and price > {p}").WithTemplateParam("c", []string{"red", "blue"}).
		WithTemplateParam("p", 20).WithOffset(2))
	ok(t, err)
	equal(t, ids(t, found[0].IDs), r.nearest(q[0], 9, func(i int) bool {
		return r.colours[i] != "green" && r.prices[i] > 20
	})[2:])
	_, err = c.Search(ctx, milvusclient.NewSearchOption(name, 7, []entity.Vector{entity.FloatVector{1, 2}}))
	refused(t, err, "dim")

	it, err := c.SearchIterator(ctx, milvusclient.NewSearchIteratorOption(name, entity.FloatVector(q[0])).
		WithBatchSize(30).WithIteratorLimit(150))
	ok(t, err)
	var seen []int64
	for {
		page, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		ok(t, err)
		seen = append(seen, ids(t, page.IDs)...)
	}
	equal(t, seen, r.nearest(q[0], 150, every))

	fused, err := c.HybridSearch(ctx, milvusclient.NewHybridSearchOption(name, 5,
		milvusclient.NewAnnRequest("vector", 10, entity.FloatVector(q[0])),
		milvusclient.NewAnnRequest("vector", 10, entity.FloatVector(q[0]))).
		WithReranker(milvusclient.NewRRFReranker()))
	ok(t, err)
	equal(t, ids(t, fused[0].IDs), r.nearest(q[0], 5, every))
	drop(t, ctx, c, name)
}

func TestRows(t *testing.T) {
	ctx, c := open(t, "")
	name := fresh("rows")
	fill(t, ctx, c, name, makeRows(0, 30, 1))
	got, err := c.Query(ctx, milvusclient.NewQueryOption(name).WithFilter("colour == 'red'").WithLimit(3).
		WithOutputFields("id", "price"))
	ok(t, err)
	equal(t, ids(t, got.GetColumn("id")), []int64{0, 3, 6})
	got, err = c.Get(ctx, milvusclient.NewQueryOption(name).WithIDs(column.NewColumnInt64("id", []int64{4, 2})).
		WithOutputFields("id"))
	ok(t, err)
	equal(t, ids(t, got.GetColumn("id")), []int64{2, 4})

	changed := makeRows(28, 4, 9)
	up, err := c.Upsert(ctx, milvusclient.NewColumnBasedInsertOption(name).WithInt64Column("id", changed.ids).
		WithFloatVectorColumn("vector", dim, changed.vectors).
		WithVarcharColumn("colour", []string{"gold", "gold", "gold", "gold"}).
		WithColumns(column.NewColumnDouble("price", changed.prices)))
	ok(t, err)
	must(t, up.UpsertCount == 4, "not all rows were upserted")
	must(t, count(t, ctx, c, name, "colour == 'gold'") == 4 && count(t, ctx, c, name, "") == 32, "other rows")
	done, err := c.Delete(ctx, milvusclient.NewDeleteOption(name).WithInt64IDs("id", []int64{0, 3}))
	ok(t, err)
	must(t, done.DeleteCount == 2, "not all rows were deleted")
	_, err = c.Delete(ctx, milvusclient.NewDeleteOption(name).WithExpr("price >= 10"))
	ok(t, err)
	must(t, count(t, ctx, c, name, "") == 18, "other rows are left")
	drop(t, ctx, c, name)

	_, err = c.DescribeCollection(ctx, milvusclient.NewDescribeCollectionOption(name))
	refused(t, err, "not found", "can't find", "not exist")
}
