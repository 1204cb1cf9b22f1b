/* From schemas to the cases of a rule: what keywords there are, $ref, allOf, anyOf and oneOf. */
#include "schema.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_OWN = 256,
    MAX_CHOICES = 24,
    MAX_NESTED = 64,
    MAX_CASES = 512,
    MAX_ALL_CASES = 40000,
    MAX_PATH = 200
};

enum keyword_class { ANNOTATION, LIMITS, COMBINES };

/* Sorted by name. */
static const struct keyword {
    const char *name;
    enum keyword_class class;
    unsigned types; /* that it is about */
} keywords[] = {
    {"$anchor", ANNOTATION, 0},
    {"$comment", ANNOTATION, 0},
    {"$defs", ANNOTATION, 0},
    {"$id", ANNOTATION, 0},
    {"$ref", COMBINES, 0},
    {"$schema", ANNOTATION, 0},
    {"$vocabulary", ANNOTATION, 0},
    {"additionalItems", LIMITS, TYPE_ARRAY},
    {"additionalProperties", LIMITS, TYPE_OBJECT},
    {"allOf", COMBINES, 0},
    {"anyOf", COMBINES, 0},
    {"const", LIMITS, 0},
    {"contentEncoding", ANNOTATION, 0},
    {"contentMediaType", ANNOTATION, 0},
    {"default", ANNOTATION, 0},
    {"definitions", ANNOTATION, 0},
    {"deprecated", ANNOTATION, 0},
    {"description", ANNOTATION, 0},
    {"discriminator", ANNOTATION, 0},
    {"enum", LIMITS, 0},
    {"example", ANNOTATION, 0},
    {"examples", ANNOTATION, 0},
    {"exclusiveMaximum", LIMITS, TYPE_NUMBER},
    {"exclusiveMinimum", LIMITS, TYPE_NUMBER},
    {"externalDocs", ANNOTATION, 0},
    {"format", LIMITS, 0},
    {"id", ANNOTATION, 0},
    {"items", LIMITS, TYPE_ARRAY},
    {"maxItems", LIMITS, TYPE_ARRAY},
    {"maxLength", LIMITS, TYPE_STRING},
    {"maxProperties", LIMITS, TYPE_OBJECT},
    {"maximum", LIMITS, TYPE_NUMBER},
    {"minItems", LIMITS, TYPE_ARRAY},
    {"minLength", LIMITS, TYPE_STRING},
    {"minProperties", LIMITS, TYPE_OBJECT},
    {"minimum", LIMITS, TYPE_NUMBER},
    {"multipleOf", LIMITS, TYPE_NUMBER},
    {"nullable", LIMITS, 0},
    {"oneOf", COMBINES, 0},
    {"pattern", LIMITS, TYPE_STRING},
    {"patternProperties", LIMITS, TYPE_OBJECT},
    {"prefixItems", LIMITS, TYPE_ARRAY},
    {"properties", LIMITS, TYPE_OBJECT},
    {"readOnly", ANNOTATION, 0},
    {"required", LIMITS, TYPE_OBJECT},
    {"title", ANNOTATION, 0},
    {"type", LIMITS, 0},
    {"uniqueItems", LIMITS, TYPE_ARRAY},
    {"writeOnly", ANNOTATION, 0},
    {"xml", ANNOTATION, 0},
};

static int by_name(const void *name, const void *keyword)
{
    return strcmp(name, ((const struct keyword *)keyword)->name);
}

static const struct keyword *find_keyword(const char *name)
{
    return bsearch(name, keywords, sizeof keywords / sizeof *keywords, sizeof *keywords, by_name);
}

unsigned schema_keyword_types(const char *name)
{
    const struct keyword *keyword = find_keyword(name);
    return keyword ? keyword->types : 0;
}

/* ---- errors ---- */

/* Writes the way from `from` to `to` behind path[length]. */
static bool find_path(const json_t *from, const json_t *to, char *path, size_t length, int depth)
{
    if (from == to)
        return true;
    if (depth >= MAX_NESTED || length + 8 >= MAX_PATH)
        return false;
    size_t room = MAX_PATH - length, i;
    const char *key;
    json_t *value;
    if (json_is_object(from)) {
        json_object_foreach((json_t *)from, key, value) {
            int n = snprintf(path + length, room, "/%s", key);
            if ((size_t)n < room && find_path(value, to, path, length + (size_t)n, depth + 1))
                return true;
        }
    } else if (json_is_array(from)) {
        json_array_foreach((json_t *)from, i, value) {
            int n = snprintf(path + length, room, "/%zu", i);
            if ((size_t)n < room && find_path(value, to, path, length + (size_t)n, depth + 1))
                return true;
        }
    }
    path[length] = '\0';
    return false;
}

int schema_fail(struct schema *s, int code, const json_t *at, const char *keyword, const char *what)
{
    char path[MAX_PATH] = "#";
    if (!at || !find_path(s->root, at, path, 1, 0))
        path[1] = '\0';
    return grammar_fail(s->build, code, "JSON Schema, %s%s%.60s: %s", path, keyword ? "/" : "",
                        keyword ? keyword : "", what);
}

/* ---- references ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One part of a JSON pointer in a URI fragment (RFC 6901), up to '/'. */
static const char *read_part(const char *from, char *out, size_t room)
{
    size_t n = 0;
    for (; *from && *from != '/'; from++) {
        char c = *from;
        if (c == '%' && hex_digit(from[1]) >= 0 && hex_digit(from[2]) >= 0) {
            c = (char)(hex_digit(from[1]) * 16 + hex_digit(from[2]));
            from += 2;
        }
        if (c == '~' && (from[1] == '0' || from[1] == '1'))
            c = *++from == '0' ? '~' : '/';
        if (n + 1 >= room || c == '\0')
            return NULL;
        out[n++] = c;
    }
    out[n] = '\0';
    return from;
}

static const json_t *at_pointer(const json_t *at, const char *pointer)
{
    char part[512];
    while (at && *pointer == '/') {
        pointer = read_part(pointer + 1, part, sizeof part);
        if (!pointer)
            return NULL;
        if (!json_is_array(at))
            at = json_object_get(at, part);
        else
            at = *part && strspn(part, "0123456789") == strlen(part)
                     ? json_array_get(at, strtoul(part, NULL, 10))
                     : NULL;
    }
    return *pointer ? NULL : at;
}

static const json_t *find_anchor(const json_t *at, const char *name, int depth)
{
    if (depth >= MAX_NESTED)
        return NULL;
    const char *key;
    json_t *value;
    const json_t *found = NULL;
    if (json_is_object(at)) {
        const char *anchor = json_string_value(json_object_get(at, "$anchor"));
        if (anchor && strcmp(anchor, name) == 0)
            return at;
        json_object_foreach((json_t *)at, key, value) {
            if (!found)
                found = find_anchor(value, name, depth + 1);
        }
    }
    for (size_t i = 0; json_is_array(at) && !found && i < json_array_size(at); i++)
        found = find_anchor(json_array_get(at, i), name, depth + 1);
    return found;
}

static const json_t *resolve(struct schema *s, const json_t *at, const json_t *ref)
{
    const char *text = json_string_value(ref);
    const char *id = json_is_object(s->root) ? json_string_value(json_object_get(s->root, "$id")) : NULL;
    if (!schema_step(s, 8))
        return NULL;
    if (!text) {
        schema_fail(s, ERR_INVALID, at, "$ref", "must be a string");
        return NULL;
    }
    if (id && *id && strncmp(text, id, strlen(id)) == 0 && (text[strlen(id)] == '#' || !text[strlen(id)]))
        text += strlen(id);
    const json_t *found = NULL;
    if (strcmp(text, "#") == 0 || !*text)
        found = s->root;
    else if (strncmp(text, "#/", 2) == 0)
        found = at_pointer(s->root, text + 1);
    else if (*text == '#' && schema_step(s, 1000))
        found = find_anchor(s->root, text + 1, 0);
    if (found && (json_is_object(found) || json_is_boolean(found)))
        return found;
    if (*text != '#')
        schema_fail(s, ERR_UNSUPPORTED, at, "$ref", "references outside the schema are not supported");
    else
        schema_fail(s, ERR_INVALID, at, "$ref", found ? "leads to what is no schema" : "leads nowhere");
    return NULL;
}

static bool is_annotation(const char *name)
{
    const struct keyword *keyword = find_keyword(name);
    return keyword ? keyword->class == ANNOTATION : strncmp(name, "x-", 2) == 0;
}

bool schema_says_nothing(const json_t *schema)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)schema, key, value) {
        if (!is_annotation(key))
            return false;
    }
    return !json_is_false(schema);
}

/* The only member that is no annotation; NULL where there are several or none. */
static const char *only_keyword(const json_t *schema)
{
    const char *only = NULL, *key;
    json_t *value;
    json_object_foreach((json_t *)schema, key, value) {
        if (is_annotation(key))
            continue;
        if (only)
            return NULL;
        only = key;
    }
    return only;
}

const json_t *schema_target(struct schema *s, const json_t *schema)
{
    for (int hops = 0; json_is_object(schema); hops++) {
        const json_t *ref = json_object_get(schema, "$ref");
        const char *only = ref ? only_keyword(schema) : NULL;
        if (!only)
            break;
        if (hops == MAX_NESTED) {
            schema_fail(s, ERR_INVALID, schema, "$ref", "refers to itself without an end");
            return NULL;
        }
        schema = resolve(s, schema, ref);
    }
    return schema;
}

/* ---- cases ---- */

struct choice {
    const json_t *branches;
    int owner; /* of own[] */
    bool one;
};

struct reader {
    struct schema *s;
    struct schema_rule *rule;
    const json_t *own[MAX_OWN];
    int parent[MAX_OWN]; /* which of them led here; -1: none */
    size_t n_own;
    struct choice choices[MAX_CHOICES];
    size_t picks[MAX_CHOICES];
    size_t n_choices;
    bool never;
    size_t room;
};

static bool check_keywords(struct schema *s, const json_t *schema)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)schema, key, value) {
        const struct keyword *keyword = find_keyword(key);
        if (!keyword && strncmp(key, "x-", 2) != 0) {
            schema_fail(s, ERR_UNSUPPORTED, schema, key, "this keyword is not supported");
            return false;
        }
    }
    return true;
}

static bool add_choice(struct reader *r, const json_t *schema, int owner, const char *name)
{
    const json_t *branches = json_object_get(schema, name);
    if (!json_is_array(branches) || json_array_size(branches) == 0) {
        schema_fail(r->s, ERR_INVALID, schema, name, "must be an array of schemas, not empty");
        return false;
    }
    if (r->n_choices == MAX_CHOICES) {
        schema_fail(r->s, ERR_LIMIT, schema, name, "too many choices at one place");
        return false;
    }
    r->choices[r->n_choices++] = (struct choice){branches, owner, name[0] == 'o'};
    return true;
}

/* Whether it is there already. One that leads to itself would never end. */
static bool is_known(struct reader *r, const json_t *schema, int parent)
{
    for (size_t i = 0; i < r->n_own; i++) {
        if (r->own[i] != schema)
            continue;
        while (parent >= 0 && parent != (int)i)
            parent = r->parent[parent];
        if (parent >= 0)
            schema_fail(r->s, ERR_INVALID, schema, NULL, "refers to itself without an end");
        return true;
    }
    return false;
}

/* Takes a schema's own keywords, what it refers to and what allOf has; choices are left for later. */
static bool expand(struct reader *r, const json_t *schema, int parent, int depth)
{
    struct schema *s = r->s;
    if (!schema_step(s, 1))
        return false;
    if (json_is_true(schema))
        return true;
    if (json_is_false(schema)) {
        r->never = true;
        return true;
    }
    if (!json_is_object(schema)) {
        schema_fail(s, ERR_INVALID, schema, NULL, "a schema must be an object or a boolean");
        return false;
    }
    if (is_known(r, schema, parent))
        return !grammar_failure(s->build, NULL);
    if (r->n_own == MAX_OWN || depth == MAX_NESTED) {
        schema_fail(s, ERR_LIMIT, schema, NULL, "too many schemas are combined here");
        return false;
    }
    if (!schema_step(s, json_object_size(schema) + r->n_own) || !check_keywords(s, schema))
        return false;
    int at = (int)r->n_own++;
    r->own[at] = schema;
    r->parent[at] = parent;

    const json_t *ref = json_object_get(schema, "$ref"), *all = json_object_get(schema, "allOf");
    if (ref) {
        const json_t *target = resolve(s, schema, ref);
        if (!target || !expand(r, target, at, depth + 1))
            return false;
    }
    if (all && (!json_is_array(all) || json_array_size(all) == 0)) {
        schema_fail(s, ERR_INVALID, schema, "allOf", "must be an array of schemas, not empty");
        return false;
    }
    for (size_t i = 0; i < json_array_size(all); i++) {
        if (!expand(r, json_array_get(all, i), at, depth + 1))
            return false;
    }
    return (!json_object_get(schema, "anyOf") || add_choice(r, schema, at, "anyOf")) &&
           (!json_object_get(schema, "oneOf") || add_choice(r, schema, at, "oneOf"));
}

static struct schema_case *add_case(struct reader *r)
{
    struct schema *s = r->s;
    struct schema_rule *rule = r->rule;
    if (rule->n_cases >= MAX_CASES || ++s->n_cases > MAX_ALL_CASES) {
        schema_fail(s, ERR_LIMIT, rule->n_set ? rule->set[0] : NULL, NULL, "too many alternatives");
        return NULL;
    }
    if (rule->n_cases == r->room) {
        size_t room = r->room ? r->room * 2 : 2;
        struct schema_case *cases = schema_alloc(s, room, sizeof *cases);
        if (!cases)
            return NULL;
        if (rule->n_cases)
            memcpy(cases, rule->cases, rule->n_cases * sizeof *cases);
        rule->cases = cases;
        r->room = room;
    }
    struct schema_case *added = &rule->cases[rule->n_cases++];
    *added = (struct schema_case){.unit = -1};
    return added;
}

static bool keep_picks(struct reader *r, struct schema_case *added)
{
    added->picks = schema_alloc(r->s, r->n_choices + 1, sizeof *added->picks);
    for (size_t i = 0; added->picks && i < r->n_choices; i++) {
        if (r->choices[i].one)
            added->picks[added->n_picks++] = (struct schema_pick){r->choices[i].branches, r->picks[i]};
    }
    return added->picks;
}

/* Every way to choose from choices[at] on becomes a case. */
static bool choose(struct reader *r, size_t at)
{
    if (r->never)
        return true;
    if (at == r->n_choices) {
        struct schema_shape *shape = schema_merge(r->s, r->own, r->n_own);
        if (!shape)
            return !grammar_failure(r->s->build, NULL);
        struct schema_case *added = add_case(r);
        if (!added)
            return false;
        added->shape = shape;
        return keep_picks(r, added);
    }
    const json_t *branches = r->choices[at].branches;
    size_t n_own = r->n_own, n_choices = r->n_choices;
    for (size_t i = 0; i < json_array_size(branches); i++) {
        r->picks[at] = i;
        if (!expand(r, json_array_get(branches, i), r->choices[at].owner, 0) || !choose(r, at + 1))
            return false;
        r->n_own = n_own;
        r->n_choices = n_choices;
        r->never = false;
    }
    return true;
}

/* A choice and nothing else: its branches are rules of their own, shared with all who have them. */
static bool read_choice(struct reader *r, const json_t *schema, const char *name)
{
    if (!check_keywords(r->s, schema) || !add_choice(r, schema, -1, name))
        return false;
    const json_t *branches = r->choices[0].branches;
    for (size_t i = 0; i < json_array_size(branches); i++) {
        const json_t *branch = json_array_get(branches, i);
        r->picks[0] = i;
        if (!json_is_object(branch) && !json_is_boolean(branch)) {
            schema_fail(r->s, ERR_INVALID, schema, name, "must be an array of schemas");
            return false;
        }
        int unit = schema_rule(r->s, &branch, 1);
        struct schema_case *added = unit >= 0 ? add_case(r) : NULL;
        if (!added)
            return false;
        added->unit = unit;
        if (!keep_picks(r, added))
            return false;
    }
    return true;
}

void schema_read(struct schema *s, struct schema_rule *rule)
{
    struct reader r = {.s = s, .rule = rule};
    if (rule->never)
        return;
    const char *only = rule->n_set == 1 ? only_keyword(rule->set[0]) : NULL;
    if (only && (strcmp(only, "anyOf") == 0 || strcmp(only, "oneOf") == 0)) {
        read_choice(&r, rule->set[0], only);
        return;
    }
    for (size_t i = 0; i < rule->n_set; i++) {
        if (!expand(&r, rule->set[i], -1, 0))
            return;
    }
    choose(&r, 0);
}
