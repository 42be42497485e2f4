/* test_filter_parse.c - the language: what a text means as a plan, and what is refused with which
 * words. */
#include "query_fixture.h"
#include "expect.h"
#include "schema/errors.h"
#include <math.h>

struct rig {
    struct arena *ar;
    struct fx fx;
};

static int setup(void **state)
{
    struct arena *ar = arena_new(0);
    struct rig *r = ARENA_NEW(ar, struct rig);
    r->ar = ar;
    fx_schema(&r->fx, true);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    arena_free(((struct rig *)*state)->ar);
    return 0;
}

static const char *dumped(struct rig *r, const struct expr *e)
{
    struct buf b;
    buf_init(&b, SIZE_MAX / 2);
    assert_true(plan_dump(e, &r->fx.schema, &b));
    const char *text = arena_strndup(r->ar, (const char *)b.p, b.n);
    buf_done(&b);
    return text;
}

static const char *plan_of(struct rig *r, const char *text)
{
    struct status st = STATUS_INIT;
    const struct expr *e = NULL;
    if (filter_parse(slice_of(text), &r->fx.schema, NULL, 0, r->ar, &e, &st) != 0) {
        fail_msg("%s: %s", text, st.msg);
    }
    return e ? dumped(r, e) : "everything";
}

static void means(struct rig *r, const char *text, const char *plan)
{
    const char *got = plan_of(r, text);
    if (strcmp(got, plan) != 0) {
        fail_msg("%s\n  gives  %s\n  wanted %s", text, got, plan);
    }
}

static void refused(struct rig *r, const char *text, const char *why)
{
    struct status st = STATUS_INIT;
    const struct expr *e = (const struct expr *)r;
    int rc = filter_parse(slice_of(text), &r->fx.schema, NULL, 0, r->ar, &e, &st);
    if (rc == 0) {
        fail_msg("%s is accepted as %s", text, dumped(r, e));
    }
    if (rc != ERR_PARAMETER_INVALID || st.code != rc || !strstr(st.msg, why)) {
        fail_msg("%s: %d \"%s\" does not mention \"%s\"", text, rc, st.msg, why);
    }
    assert_ptr_equal(e, r);
}

static void test_filter_parse_blank_text_selects_everything(void **state)
{
    means(*state, "", "everything");
    means(*state, "  \t\n ", "everything");
}

static void test_filter_parse_comparisons_put_the_field_on_the_left(void **state)
{
    means(*state, "i32 > 5", "i32 > 5");
    means(*state, "5 < i32", "i32 > 5");
    means(*state, "5 >= i32", "i32 <= 5");
    means(*state, "'x' != s", "s != \"x\"");
    means(*state, "b == true", "b == true");
    means(*state, "False != b", "b != false");
    means(*state, "i8 < i64", "i8 < i64");
    means(*state, "s >= s2", "s >= s2");
    means(*state, "ai[2] == 7", "ai[2] == 7");
    means(*state, "ai == [1, 2]", "ai == [1, 2]");
}

static void test_filter_parse_integer_fields_round_fractional_bounds_exactly(void **state)
{
    means(*state, "i64 > 1.5", "i64 > 1");
    means(*state, "i64 >= 1.5", "i64 >= 2");
    means(*state, "i64 < 1.5", "i64 < 2");
    means(*state, "i64 <= -1.5", "i64 <= -2");
    means(*state, "i64 == 2.0", "i64 == 2");
    means(*state, "i64 == 1.5", "i64 < -9223372036854775808");
    means(*state, "i64 != 1.5", "i64 >= -9223372036854775808");
    means(*state, "i64 < 1e300", "i64 >= -9223372036854775808");
    means(*state, "i64 > 9223372036854775808.0", "i64 < -9223372036854775808");
    means(*state, "1.2 < i64 < 1.8", "i64 < -9223372036854775808");
    means(*state, "1.5 < i64 < 4", "2 <= i64 <= 3");
    means(*state, "-1e300 < i64 <= 2.5", "-9223372036854775808 <= i64 <= 2");
    means(*state, "d == 9007199254740993", "d == 9007199254740993");
    means(*state, "d == 5", "d == 5.0");
}

static void test_filter_parse_precedence_is_that_of_the_api(void **state)
{
    means(*state, "i8 == 1 or i16 == 2 and i32 == 3", "(i8 == 1) or ((i16 == 2) and (i32 == 3))");
    means(*state, "i8 == 1 || i16 == 2 && i32 == 3", "(i8 == 1) or ((i16 == 2) and (i32 == 3))");
    means(*state, "i32 + 2 * 3 == 7", "(i32 + (6)) == 7");
    means(*state, "i32 * 2 + 3 == 7", "((i32 * (2)) + (3)) == 7");
    means(*state, "i32 == 2 + 3 * 4 - 1", "i32 == 13");
    means(*state, "i64 == -2 ** 2", "i64 == -4");
    means(*state, "i64 == 2 ** 3", "i64 == 8");
    means(*state, "i64 in [300/2, 900%40, -10*30+800, (100+200)*2]", "i64 in [20, 150, 500, 600]");
    means(*state, "d in [+3**6, 2**10/2]", "d in [512.0, 729.0]");
    means(*state, "d <= -4**5/2", "d <= -512.0");
    means(*state, "200+300 < i64 <= 500+500", "500 < i64 <= 1000");
    means(*state, "not (i8 == 1)", "not (i8 == 1)");
    means(*state, "!b", "not (b)");
    means(*state, "not b and b", "(not (b)) and (b)");
    means(*state, "not s like 'a%'", "not (s like \"a%\")");
    means(*state, "not exists j['a']", "not (exists j[\"a\"])");
    means(*state, "not j['a'] is null", "not (j[\"a\"] is null)");
    means(*state, "not not b", "b");
    means(*state, "(((b)))", "b");
    /* `not` binds tighter than ==, as in the API */
    refused(*state, "not i8 == 1", "not op can only be applied on boolean expression");
    refused(*state, "not i8 in [1]", "not op can only be applied on boolean expression");
}

static void test_filter_parse_ranges_in_both_directions(void **state)
{
    means(*state, "1 < i32 <= 10", "1 < i32 <= 10");
    means(*state, "10 > i32 >= 1", "1 <= i32 < 10");
    means(*state, "'a' <= s < 'c'", "\"a\" <= s < \"c\"");
    means(*state, "0 < j['a'] < 1.5", "0 < j[\"a\"] < 1.5");
    means(*state, "0 < i32 + 1 < 9", "((i32 + (1)) > 0) and ((i32 + (1)) < 9)");
    means(*state, "i8 < i16 < i32", "(i8 < i16) and (i16 < i32)");
    means(*state, "i8 < 5 < i32", "(i8 < 5) and (i32 > 5)");
    refused(*state, "5 < i32 < 3", "invalid range: lowerbound is greater than upperbound");
    refused(*state, "3 < i32 < 3", "invalid range: lowerbound is greater than upperbound");
    refused(*state, "true < b < false", "invalid range operations on boolean expr");
    refused(*state, "1 < s < 3", "comparisons between VarChar and Int64 are not supported");
    refused(*state, "1 < j['a'] < 'x'", "comparisons between JSON and VarChar are not supported");
    refused(*state, "1 < ai < 3", "can not comparisons array fields directly");
    refused(*state, "1 < i32 > 3", "a condition cannot be compared");
}

static void test_filter_parse_lists_are_sorted_and_unique(void **state)
{
    means(*state, "i32 in [3, 1, 3, 2,]", "i32 in [1, 2, 3]");
    means(*state, "i32 not in [3]", "i32 not in [3]");
    means(*state, "i32 NOT IN [3]", "i32 not in [3]");
    means(*state, "i32 in []", "i32 in []");
    means(*state, "s in ['b', \"a\"]", "s in [\"a\", \"b\"]");
    means(*state, "d in [2, 1.5]", "d in [1.5, 2.0]");
    means(*state, "j['a'] in ['x', 1, 1.0, true]", "j[\"a\"] in [true, 1, \"x\"]");
    refused(*state, "i32 in 1", "the right-hand side of 'in' must be a list, but got: 1");
    refused(*state, "i32 in [1, 'a']",
            "value 'string_val:\"a\"' in list cannot be casted to Int32");
    refused(*state, "i64 in [1.5]", "value 'float_val:1.5' in list cannot be casted to Int64");
    refused(*state, "i64 in [i32]", "value 'i32' in list cannot be a non-const expression");
    refused(*state, "1 in [1]", "'term' can only be used on non-const expression, but got: 1");
    refused(*state, "i64 + 1 in [1]", "'term' can only be used on single field");
    refused(*state, "ai in [1]", "'term' can only be used on single field");
    refused(*state, "i64 inn [1]", "invalid expression");
}

static void test_filter_parse_keys_become_lists(void **state)
{
    means(*state, "id == 5", "id in [5]");
    means(*state, "part == 'x' or part == 'a'", "part in [\"a\", \"x\"]");
    means(*state, "i8 == 1 or i8 in [3, 2] or b", "(b) or (i8 in [1, 2, 3])");
    means(*state, "j['a'] == 1 or j['a'] == 'x' or j['a'] == 2",
          "(j[\"a\"] in [1, 2]) or (j[\"a\"] == \"x\")");
}

static void test_filter_parse_logic_flattens_and_drops_constants(void **state)
{
    means(*state, "b and (i8 > 1 and (i8 > 2))", "(b) and (i8 > 1) and (i8 > 2)");
    means(*state, "true and b", "b");
    means(*state, "false and b", "false");
    means(*state, "1 == 1 or b", "true");
    means(*state, "not true", "false");
    means(*state, "1 < 2", "true");
    means(*state, "'a' == 'b'", "false");
    means(*state, "j['a'] == 1 and b", "(b) and (j[\"a\"] == 1)");
}

static void test_filter_parse_names_paths_and_dynamic_keys(void **state)
{
    means(*state, "j[\"a\"]['b'][0] == 1", "j[\"a\"][\"b\"][0] == 1");
    means(*state, "$meta['k'] == 1", "$meta[\"k\"] == 1");
    means(*state, "color == 'red'", "$meta[\"color\"] == \"red\"");
    means(*state, "color['x'][1] == 2", "$meta[\"color\"][\"x\"][1] == 2");
    means(*state, "color is null", "$meta[\"color\"] is null");
    means(*state, "i64 IS NOT NULL", "i64 is not null");
    means(*state, "is == 1 or null == 2", "($meta[\"is\"] == 1) or ($meta[\"null\"] == 2)");
    means(*state, "exists j['a']", "exists j[\"a\"]");
    means(*state, "EXISTS color", "exists $meta[\"color\"]");
    refused(*state, "i64['a'] == 1", "Int64 data type not supported accessed with []");
    refused(*state, "ai['a'] == 1", "can only access array field with integer index");
    refused(*state, "ai[0][1] == 1", "have no elements");
    refused(*state, "$meta == 1", "$meta needs a key");
    refused(*state, "v is null", "IsNull/IsNotNull operations are not supported on vector fields");
    refused(*state, "ai[0] is null", "need a field or a JSON path");
    refused(*state, "v == 1", "filtering on field v of type FloatVector is not supported");
    refused(*state, "ts == 1", "filtering on field ts of type Timestamptz is not supported");
    refused(*state, "exists i64", "exists operations are only supported on json field, got: Int64");
}

static void test_filter_parse_unknown_field_without_dynamic_field_is_named(void **state)
{
    struct rig *r = *state;
    fx_schema(&r->fx, false);
    refused(r, "color == 1", "cannot parse expression: color == 1, error: field color not exist");
    refused(r, "12-s9", "field s9 not exist");
    refused(r, "$meta['a'] == 1", "field $meta not exist");
}

static void test_filter_parse_functions_in_lower_and_upper_case(void **state)
{
    means(*state, "json_contains(j['t'], 1)", "json_contains(j[\"t\"], 1)");
    means(*state, "JSON_CONTAINS_ALL(j['t'], [1, 'a', [2]])",
          "json_contains_all(j[\"t\"], [1, \"a\", [2]])");
    means(*state, "array_contains(ai, 1)", "array_contains(ai, 1)");
    means(*state, "ARRAY_CONTAINS_ANY(af, [1])", "array_contains_any(af, [1.0])");
    means(*state, "array_length(ai) == 2", "array_length(ai) == 2");
    means(*state, "2 < array_length(j['t'])", "array_length(j[\"t\"]) > 2");
    means(*state, "array_length(ai) % 2 == 0", "(array_length(ai) % (2)) == 0");
    refused(*state, "array_contains(i64, 1)",
            "only supported on json or array fields now, got: i64");
    refused(*state, "array_contains(ai, 'x')",
            "can't compare between array element type: Int64 and VarChar");
    refused(*state, "array_contains_any(ai, 1)", "contains_any operation element must be an array");
    refused(*state, "array_contains(ai, i64)", "only supported explicit element now, got: i64");
    refused(*state, "array_length(i64) == 1",
            "only supported on json or array fields now, got: i64");
    refused(*state, "array_length(ai)", "predicate is not a boolean expression");
    refused(*state, "Json_Contains(j, 1)", "Json_Contains is not supported");
}

static void test_filter_parse_arithmetic_chains(void **state)
{
    means(*state, "i32 % 2 == 0", "(i32 % (2)) == 0");
    means(*state, "(10 - i32) * 2 > 3", "(((10) - i32) * (2)) > 3");
    means(*state, "-i32 < 3", "((0) - i32) < 3");
    means(*state, "+i32 < 3", "i32 < 3");
    means(*state, "j['a'] + 1 == 2.5", "(j[\"a\"] + (1)) == 2.5");
    means(*state, "af[0] / 2 <= 1", "(af[0] / (2)) <= 1");
    means(*state, "3 == 1 + i32", "((1) + i32) == 3");
    refused(*state, "i32 + i64 == 3",
            "not supported to do arithmetic operations between multiple fields");
    refused(*state, "i32 + 1 == i64", "only comparison between two fields is supported");
    refused(*state, "i32 / 0 == 1", "division by zero");
    refused(*state, "i32 % 0 == 1", "modulo by zero");
    refused(*state, "i32 == 1 / 0", "division by zero");
    refused(*state, "i32 == 1 % 0", "modulo by zero");
    refused(*state, "d / 0.0 == 1", "division by zero");
    refused(*state, "d % 2 == 1", "modulo can only apply on integer types");
    refused(*state, "i32 % 1.5 == 1", "modulo can only apply on integer types");
    refused(*state, "s + 1 == 2", "'add' can only be used between");
    refused(*state, "i32 + 'a' == 2", "'add' can only be used between");
    refused(*state, "i32 == 9223372036854775807 + 1", "integer overflow");
    refused(*state, "d == 1e308 * 10", "not a finite number");
    refused(*state, "i32 + 1 == 'a'", "comparisons between Int64 and VarChar are not supported");
}

static void test_filter_parse_literals(void **state)
{
    means(*state, "i64 == 0x1F", "i64 == 31");
    means(*state, "i64 == 010", "i64 == 8");
    means(*state, "i64 == 0b101", "i64 == 5");
    means(*state, "i64 == -9223372036854775808", "i64 == -9223372036854775808");
    means(*state, "d == .5", "d == 0.5");
    means(*state, "d == 1.", "d == 1.0");
    means(*state, "d == 1.5e3", "d == 1500.0");
    means(*state, "d == 0x1.8p1", "d == 3.0");
    means(*state, "d == 2E-1", "d == 0.20000000000000001");
    means(*state, "s == 'it\\'s'", "s == \"it's\"");
    means(*state, "s == \"a\\n\\x41\\101\\u00e9\"", "s == \"a\\nAA\xC3\xA9\"");
    means(*state, "s == '\\uD83D\\uDE00'", "s == \"\xF0\x9F\x98\x80\"");
    means(*state, "s == 'a\\%b'", "s == \"a\\\\%b\"");
    means(*state, "s like 'a\\%b%'", "s like \"a\\\\%b%\"");
    means(*state, "s == r'a\\nb'", "s == \"a\\\\nb\"");
    means(*state, "s == ''", "s == \"\"");
    refused(*state, "i64 == 9223372036854775808", "integer overflow");
    refused(*state, "i64 == 99999999999999999999", "invalid number");
    refused(*state, "i64 == 089", "invalid number");
    refused(*state, "i64 == 0x", "invalid number");
    refused(*state, "i64 == 12ab", "invalid number");
    refused(*state, "d == 1e999", "invalid number");
    refused(*state, "d == 0x1.8", "invalid number");
    refused(*state, "s == 'abc", "unterminated string");
    refused(*state, "s == 'abc\\", "unterminated string");
    refused(*state, "s == '\\xzz'", "invalid escape");
    refused(*state, "s == '\\uD83D'", "invalid escape");
}

static void test_filter_parse_type_clashes_are_errors(void **state)
{
    refused(*state, "i64 == 'a'", "comparisons between Int64 and VarChar are not supported");
    refused(*state, "s == 1", "comparisons between VarChar and Int64 are not supported");
    refused(*state, "s > true", "comparisons between VarChar and Bool are not supported");
    refused(*state, "b == 1", "comparisons between Bool and Int64 are not supported");
    refused(*state, "b > true", "only == and != are supported on boolean values");
    refused(*state, "j['a'] < true", "only == and != are supported on boolean values");
    refused(*state, "j['a'] == [1]", "comparisons between JSON and Array are not supported");
    refused(*state, "i64 == s", "comparisons between Int64 and VarChar are not supported");
    refused(*state, "b < b", "comparisons between Bool and Bool are not supported");
    refused(*state, "j['a'] == i64", "two column comparison with JSON type is not supported");
    refused(*state, "ai == ai", "can not comparisons array fields directly");
    refused(*state, "ai < [1]", "can not comparisons array fields directly");
    refused(*state, "'a' == 1", "cannot be applied to two incompatible operands: 'a' == 1");
    refused(*state, "i64 like 'a'", "like operation on non-string or no-json field is unsupported");
    refused(*state, "s like 1", "the right operand of like must be a string");
    refused(*state, "i64 + 1 like 'a'", "like operation on");
    refused(*state, "(b and b) == true", "a condition cannot be compared");
    refused(*state, "i64 and b", "'and' can only be used between boolean expressions");
    refused(*state, "b or 1", "'or' can only be used between boolean expressions");
}

static void test_filter_parse_a_value_alone_is_no_condition(void **state)
{
    refused(*state, "i64", "predicate is not a boolean expression: i64, data type: Int64");
    refused(*state, "color", "predicate is not a boolean expression: color, data type: JSON");
    refused(*state, "1 + 2", "predicate is not a boolean expression: 1 + 2, data type: Int64");
    refused(*state, "'x'", "data type: VarChar");
    refused(*state, "12-s3", "predicate is not a boolean expression: 12-s3, data type: JSON");
    means(*state, "b", "b");
    means(*state, "ab[0]", "ab[0]");
    means(*state, "true", "true");
}

static void test_filter_parse_syntax_errors_say_where(void **state)
{
    refused(*state, "i64 = 1", "invalid expression: unexpected '=' at offset 4");
    refused(*state, "i64 == ", "invalid expression: unexpected end");
    refused(*state, "(i64 == 1", "invalid expression: unexpected end");
    refused(*state, "i64 == 1)", "unexpected ')' at offset 8");
    refused(*state, "i64 And b", "unexpected 'And'");
    refused(*state, "\xE4\xB8\xAD\xE6\x96\x87", "unexpected character at offset 0");
    refused(*state, "i64 == 1 # x", "unexpected character at offset 9");
    refused(*state, "i64 is", "unexpected end");
    refused(*state, "i64 is 3", "unexpected '3'");
    refused(*state, "i64 not 3", "unexpected 'not'");
    refused(*state, "ai[-1] == 2", "unexpected '-'");
    refused(*state, "[1, 2", "unexpected end");
    refused(*state, "json_contains(j)", "unexpected ')'");
    refused(*state, "s not like 'a'", "unexpected 'not'");
}

static void test_filter_parse_constructs_not_served_name_themselves(void **state)
{
    refused(*state, "text_match(s, 'a b')", "text_match is not supported");
    refused(*state, "TEXT_MATCH(s, 'a b')", "TEXT_MATCH is not supported");
    refused(*state, "phrase_match(s, 'a b', 1)", "phrase_match is not supported");
    refused(*state, "random_sample(0.5)", "random_sample is not supported");
    refused(*state, "st_within(s, 'POINT(1 1)')", "st_within is not supported");
    refused(*state, "element_filter(s, $[x] > 1)", "element_filter is not supported");
    refused(*state, "match_any(s, $ > 1)", "match_any is not supported");
    refused(*state, "empty(s)", "empty is not supported");
    refused(*state, "s =~ 'a'", "regular expressions (=~) are not supported");
    refused(*state, "s !~ 'a'", "regular expressions (!~) are not supported");
    refused(*state, "(i64 & 4) == 4", "bitwise operators are not supported");
    refused(*state, "i64 | 4 == 4", "bitwise operators are not supported");
    refused(*state, "i64 ^ 4 == 4", "bitwise operators are not supported");
    refused(*state, "~i64 == 4", "bitwise operators are not supported");
    refused(*state, "i64 << 2 == 4", "shift operators are not supported");
    refused(*state, "ts > ISO '2025-01-01T00:00:00Z'", "ISO timestamps are not supported");
    refused(*state, "ts + INTERVAL 'P1D' > ISO '2025-01-01T00:00:00Z'",
            "INTERVAL expressions are not supported");
    refused(*state, "av[x] > 1", "paths into struct fields are not supported");
}

static void test_filter_parse_templates_stand_for_values_and_lists(void **state)
{
    static const struct value items[] = {{.type = VAL_INT, .i = 3}, {.type = VAL_INT, .i = 1}};
    const struct template_value t[] = {
        {SLICE_LIT("x"), {.type = VAL_INT, .i = 5}},
        {SLICE_LIT("l"), {.type = VAL_ARRAY, .a = {items, 2}}},
        {SLICE_LIT("s"), {.type = VAL_STRING, .s = SLICE_LIT("a%")}},
        {SLICE_LIT("none"), {.type = VAL_NULL}},
        {SLICE_LIT("nan"), {.type = VAL_DOUBLE, .d = NAN}},
    };
    static const char *const rows[][2] = {
        {"i64 == {x}", "i64 == 5"},
        {"{x} < i64 < 2*{x}", "5 < i64 < 10"},
        {"i64 in {l}", "i64 in [1, 3]"},
        {"i64 in [{x}, 1]", "i64 in [1, 5]"},
        {"s like {s}", "s like \"a%\""},
        {"array_contains_all(ai, {l})", "array_contains_all(ai, [3, 1])"},
        {"i64 % {x} == 0", "(i64 % (5)) == 0"},
    };
    struct rig *r = *state;
    const struct expr *e;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        OK(filter_parse(slice_of(rows[i][0]), &r->fx.schema, t, ARRAY_LEN(t), r->ar, &e, st));
        assert_string_equal(dumped(r, e), rows[i][1]);
    }
    FAILS(filter_parse(SLICE_LIT("i64 == {y}"), &r->fx.schema, t, ARRAY_LEN(t), r->ar, &e, st),
          ERR_PARAMETER_INVALID, "template variable name {y} is not found");
    FAILS(filter_parse(SLICE_LIT("d == {nan}"), &r->fx.schema, t, ARRAY_LEN(t), r->ar, &e, st),
          ERR_PARAMETER_INVALID, "{nan} is not a finite number");
    FAILS(filter_parse(SLICE_LIT("d == {none}"), &r->fx.schema, t, ARRAY_LEN(t), r->ar, &e, st),
          ERR_PARAMETER_INVALID, "{none} has no value");
    FAILS(filter_parse(SLICE_LIT("i64 in {x}"), &r->fx.schema, t, ARRAY_LEN(t), r->ar, &e, st),
          ERR_PARAMETER_INVALID, "must be a list");
}

/* ---- bounds */

static char *repeated(struct arena *ar, const char *head, const char *part, const char *tail, int n,
                      const char *end)
{
    struct buf b;
    buf_init(&b, SIZE_MAX / 2);
    for (int i = 0; i < n; i++) {
        buf_put_str(&b, head);
    }
    buf_put_str(&b, part);
    for (int i = 0; i < n; i++) {
        buf_put_str(&b, tail);
    }
    buf_put_str(&b, end);
    char *s = arena_strndup(ar, (char *)b.p, b.n);
    buf_done(&b);
    return s;
}

static void test_filter_parse_deep_nesting_is_a_clean_error(void **state)
{
    struct rig *r = *state;
    refused(r, repeated(r->ar, "(", "i64 == 1", ")", 10000, ""), "nested too deeply");
    refused(r, repeated(r->ar, "not ", "b", "", 10000, ""), "nested too deeply");
    refused(r, repeated(r->ar, "not (", "b", ")", 10000, ""), "nested too deeply");
    refused(r, repeated(r->ar, "-", "i64", "", 10000, " == 1"), "nested too deeply");
    refused(r, repeated(r->ar, "i64 in [", "1", "]", 10000, ""), "nested too deeply");
    refused(r, repeated(r->ar, "exists ", "b", "", 10000, ""), "exists");
    refused(r, repeated(r->ar, "", "i64", " + 1", 10000, " == 1"), "nested too deeply");
    refused(r, repeated(r->ar, "", "j", "[0]", 10000, " == 1"), "nested too deeply");
    refused(r, repeated(r->ar, "b and (b or ", "b", ")", 10000, ""), "nested too deeply");
    refused(r, repeated(r->ar, "json_contains(", "j", ",1)", 10000, ""), "nested too deeply");
    plan_of(r, repeated(r->ar, "(", "i64 == 1", ")", 150, ""));
    plan_of(r, repeated(r->ar, "b and (i8 == 1 or ", "b", ")", 90, ""));
    plan_of(r, repeated(r->ar, "", "i64 == 1", " + 1", 10000, "")); /* constants fold on the way */
}

static void test_filter_parse_long_chains_work(void **state)
{
    struct rig *r = *state;
    const struct expr *e;
    const char *text = repeated(r->ar, "i64 != 3 and ", "b", "", 10000, "");
    OK(filter_parse(slice_of(text), &r->fx.schema, NULL, 0, r->ar, &e, st));
    assert_int_equal(e->kind, EX_AND);
    assert_int_equal(e->nkids, 10001);
    text = repeated(r->ar, "i64 == 3 or d > 1 or ", "b", "", 10000, "");
    OK(filter_parse(slice_of(text), &r->fx.schema, NULL, 0, r->ar, &e, st));
    assert_int_equal(e->kind, EX_OR);
    assert_int_equal(e->nkids, 10002); /* the equalities are one list */
    text = repeated(r->ar, "", "i64 in [1", ", 2", 100000, "]");
    OK(filter_parse(slice_of(text), &r->fx.schema, NULL, 0, r->ar, &e, st));
    assert_int_equal(e->value.a.n, 2);
}

static void test_filter_parse_message_of_a_long_text_still_tells_why(void **state)
{
    struct rig *r = *state;
    refused(r, repeated(r->ar, "i64 != 3 and ", "", "", 10000, "i64 == 'x'"),
            "comparisons between Int64 and VarChar are not supported");
}

static void test_filter_parse_past_the_arena_limit_reports_memory(void **state)
{
    struct rig *r = *state;
    const char *text = repeated(r->ar, "i64 != 3 and ", "b", "", 2000, "");
    for (size_t limit = 1024; limit < ((size_t)64 << 20); limit *= 4) {
        struct arena *ar = arena_new(limit);
        struct status st = STATUS_INIT;
        const struct expr *e;
        int rc = filter_parse(slice_of(text), &r->fx.schema, NULL, 0, ar, &e, &st);
        assert_true(rc == 0 || rc == ST_NO_MEMORY);
        assert_true(limit > 8192 || rc == ST_NO_MEMORY);
        arena_free(ar);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_filter_parse_blank_text_selects_everything),
        TEST(test_filter_parse_comparisons_put_the_field_on_the_left),
        TEST(test_filter_parse_integer_fields_round_fractional_bounds_exactly),
        TEST(test_filter_parse_precedence_is_that_of_the_api),
        TEST(test_filter_parse_ranges_in_both_directions),
        TEST(test_filter_parse_lists_are_sorted_and_unique),
        TEST(test_filter_parse_keys_become_lists),
        TEST(test_filter_parse_logic_flattens_and_drops_constants),
        TEST(test_filter_parse_names_paths_and_dynamic_keys),
        TEST(test_filter_parse_unknown_field_without_dynamic_field_is_named),
        TEST(test_filter_parse_functions_in_lower_and_upper_case),
        TEST(test_filter_parse_arithmetic_chains),
        TEST(test_filter_parse_literals),
        TEST(test_filter_parse_type_clashes_are_errors),
        TEST(test_filter_parse_a_value_alone_is_no_condition),
        TEST(test_filter_parse_syntax_errors_say_where),
        TEST(test_filter_parse_constructs_not_served_name_themselves),
        TEST(test_filter_parse_templates_stand_for_values_and_lists),
        TEST(test_filter_parse_deep_nesting_is_a_clean_error),
        TEST(test_filter_parse_long_chains_work),
        TEST(test_filter_parse_message_of_a_long_text_still_tells_why),
        TEST(test_filter_parse_past_the_arena_limit_reports_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
