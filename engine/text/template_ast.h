/* The compiled form of a chat template: tokens, then a tree whose depth is bounded, so that
 * walking it needs no further care. Everything lies in the template's arena and never changes. */
#ifndef HEARTH_TEMPLATE_AST_H
#define HEARTH_TEMPLATE_AST_H

#include "template_builtin.h"
#include "template_value.h"

enum {
    SOURCE_MAX = 1 << 20, /* bytes of a template */
    PARSE_DEPTH = 200,    /* brackets and blocks inside each other */
    TREE_DEPTH = 200,     /* levels of the tree, chains of operators included */
    SYMBOLS_MAX = 4096,
    COMPILE_MEMORY = 512 << 20
};

/* ---- tokens ---- */

enum token_kind {
    TOKEN_DATA,
    TOKEN_OUTPUT_BEGIN,
    TOKEN_OUTPUT_END,
    TOKEN_BLOCK_BEGIN,
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_TEXT, /* a quoted string, decoded */
    TOKEN_INT,
    TOKEN_FLOAT,
    TOKEN_OPERATOR,
    TOKEN_END
};

/* Operators are their characters: '+', OP2('*', '*'). */
#define OP2(a, b) ((a) << 8 | (b))

struct template_token {
    enum token_kind kind;
    int line;
    int op;
    const char *text; /* DATA, NAME, TEXT */
    size_t length;
    int64_t integer;
    double real;
};

/* Cuts `source` into tokens, the last of them TOKEN_END. Text outside of tags has its white space
 * and newlines trimmed already. */
int template_tokens(struct arena *, const char *source, size_t length, struct template_token **tokens,
                    size_t *n, struct err *) WARN_UNUSED;

/* ---- tree ---- */

enum node_kind {
    /* expressions */
    NODE_CONSTANT,
    NODE_NAME,      /* symbol */
    NODE_LIST,      /* list */
    NODE_TUPLE,     /* list; also a target */
    NODE_DICT,      /* list: key, value, key, value … */
    NODE_ATTRIBUTE, /* a, constant: name */
    NODE_ITEM,      /* a, b */
    NODE_SLICE,     /* a, list: three bounds, NULL where open */
    NODE_CALL,      /* a: callee; arguments */
    NODE_FILTER,    /* a, builtin; arguments */
    NODE_TEST,      /* a, builtin; arguments */
    NODE_CONDITION, /* a if b else c (NULL: undefined) */
    NODE_NOT,
    NODE_AND,
    NODE_OR,
    NODE_COMPARE,    /* list: operands; ops: what stands between them */
    NODE_CONCAT,     /* list: a ~ b ~ c */
    NODE_ADD,        /* list: a + b + c */
    NODE_ARITHMETIC, /* op, a, b */
    NODE_NEGATE,
    NODE_PLUS,
    NODE_CAPTURED,  /* what a set or filter block wrote */
    NODE_CALLER,    /* the body of a call block: as NODE_MACRO, and its value is that macro */
    /* statements */
    NODE_DATA,      /* constant */
    NODE_OUTPUT,    /* a */
    NODE_SET,       /* a: target, b: value */
    NODE_SET_BLOCK, /* a: target, b: filters of NODE_CAPTURED; list */
    NODE_FILTER_BLOCK, /* b, list */
    NODE_FOR,       /* a: target, b: what, c: condition; list, else_list */
    NODE_IF,        /* list: NODE_BRANCH */
    NODE_BRANCH,    /* a: condition, NULL: else; list */
    NODE_MACRO,     /* symbol, constant: name; list, else_list: NODE_PARAMETER; implied: what else it takes */
    NODE_PARAMETER, /* symbol, constant: name; a: default or NULL */
    NODE_WITH,      /* else_list: NODE_SET; list */
    NODE_SCOPE,     /* list */
    NODE_BREAK,
    NODE_CONTINUE,
    NODE_NS_TARGET  /* symbol, constant: attribute */
};

/* What a macro takes without saying so, by naming it. */
enum { IMPLIED_CALLER, IMPLIED_VARARGS, IMPLIED_KWARGS, IMPLIED };

struct node {
    enum node_kind kind;
    int line, depth;
    int symbol;
    int op;
    struct value constant;
    const struct builtin *builtin;
    struct node *a, *b, *c;
    struct node **list, **else_list;
    size_t n, n_else;
    /* arguments of calls: `list` by position, then */
    const struct str **names; /* [n_else] of else_list */
    struct node *star, *star_star;
    struct node *const *implied; /* [IMPLIED] of macros: NODE_NAME or NULL */
    const int *ops; /* [n - 1] of NODE_COMPARE: '<', OP2('<', '='), …, 'i' for in, 'n' for not in */
};

struct symbol {
    const struct str *name;
    bool bound; /* the template gives it a value somewhere */
};

struct template {
    struct arena arena;
    struct symbol *symbols;
    size_t n_symbols;
    struct node *body; /* NODE_SCOPE */
};

/* ---- the parser ---- */

struct node_list { /* grows in the arena */
    struct node **v;
    size_t n, capacity;
};

struct parser {
    struct template *template;
    struct arena *arena; /* the template's */
    struct err *err;
    const struct template_token *token; /* the current one */
    size_t symbols_capacity;
    int depth;
    int loops;  /* for loops around, inside of the innermost macro */
    struct node **implied; /* [IMPLIED] of the innermost macro: met so far */
    struct node_list calls; /* names that are called, checked when all are known */
};

int parse_error(struct parser *, int code, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* ERR_FORMAT: something else than what is there was expected. */
int parse_expected(struct parser *, const char *what) WARN_UNUSED;
int parse_enter(struct parser *) WARN_UNUSED; /* counts a level of nesting; leave with depth-- */
int parse_node(struct parser *, enum node_kind, int line, struct node **out) WARN_UNUSED;
/* Takes the depth from the children, once they are all there. */
int parse_finish(struct parser *, struct node *) WARN_UNUSED;
int parse_symbol(struct parser *, const char *name, size_t length, bool bind, int *symbol) WARN_UNUSED;
int parse_str(struct parser *, const char *bytes, size_t length, struct value *out) WARN_UNUSED;
int node_list_add(struct parser *, struct node_list *, struct node *) WARN_UNUSED;

static inline bool token_is(const struct template_token *t, int op)
{
    return t->kind == TOKEN_OPERATOR && t->op == op;
}
bool token_named(const struct template_token *, const char *name);

/* Consumes an operator where it is the current token; parse_expect insists on it. */
bool parse_accept(struct parser *, int op);
int parse_expect(struct parser *, int op, const char *what) WARN_UNUSED;
int parse_binary(struct parser *, enum node_kind, int op, struct node *a, struct node *b,
                 struct node **out) WARN_UNUSED;

/* Operands (template_primary.c) and what may follow them. */
int parse_primary(struct parser *, struct node **out) WARN_UNUSED;
int parse_postfix(struct parser *, struct node *, struct node **out) WARN_UNUSED;
/* Expressions (template_expression.c). `condition`: whether "a if b else c" is allowed. */
int parse_expression(struct parser *, bool condition, struct node **out) WARN_UNUSED;
int parse_tuple(struct parser *, bool condition, struct node **out) WARN_UNUSED;
/* Filters behind `input`; a name without "|" before it where `begun`. */
int parse_filters(struct parser *, struct node *input, bool begun, struct node **out) WARN_UNUSED;
/* The target of an assignment: names, tuples of names and, with `spaces`, ns.attribute. */
int parse_target(struct parser *, bool spaces, struct node **out) WARN_UNUSED;
/* Without commas, unless in brackets. */
int parse_single_target(struct parser *, bool spaces, struct node **out) WARN_UNUSED;

#endif
