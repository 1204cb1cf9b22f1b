/* One function per type (or kind of panel) and number of rows, and the tables that find them.
 * Included at the end of each dot_*.c, which defines DIRECT_ROWS, the row counts (unless another
 * instruction set's kernels read tiles directly), and PANEL_SHAPES, the row and tile counts. */

/* clang-format off */
#define DIRECT_FUNCTION(T, name, ...) \
    static void direct_##name##_##T(const struct dot *a) \
    { \
        dot_packed((struct packing){__VA_ARGS__}, T, a); \
    }
#define UNPACK_FUNCTION(name, ...) \
    static void unpack_##name(const uint8_t *p, int blocks, const struct panel *out) \
    { \
        unpack_blocks((struct packing){__VA_ARGS__}, p, blocks, out); \
    }
#define PANEL_FUNCTION(T, N, name, ...) \
    static void panel_##name##_##T##_##N(const struct dot *a) \
    { \
        dot_unpacked((struct packing){__VA_ARGS__}, T, N, a); \
    }
#ifdef DIRECT_ROWS
#define DIRECT_FUNCTIONS(name, ...) DIRECT_ROWS(DIRECT_FUNCTION, name, __VA_ARGS__)
PACKING_LIST(DIRECT_FUNCTIONS)
#endif
PACKING_LIST(UNPACK_FUNCTION)

/* Panels differ by sub-blocks, minima and width of the values only. */
#define PANEL_LIST(X) \
    X(plain, 4, 0, 1, 1, 0, 0) \
    X(minimum, 4, 0, 1, 1, 1, 0) \
    X(halves, 6, 0, 2, 1, 0, 0) \
    X(halves_minimum, 2, 0, 2, 1, 1, 0) \
    X(bytes, 8, 0, 1, 1, 0, 0)
#define PANEL_FUNCTIONS(name, ...) PANEL_SHAPES(PANEL_FUNCTION, name, __VA_ARGS__)
PANEL_LIST(PANEL_FUNCTIONS)
/* clang-format on */

/* The index in PANEL_LIST. */
INLINE int panel_kind(const struct packing k)
{
    return k.bits == 8 || k.table ? 4 : 2 * (k.subs - 1) + k.minimum;
}

typedef void dot_function(const struct dot *);
#define DIRECT_ENTRY(T, name, ...) direct_##name##_##T,
#define PANEL_ENTRY(T, N, name, ...) [N - 1][T - 1] = panel_##name##_##T##_##N,

#ifdef DIRECT_ROWS
static void direct_tile(enum dtype dtype, int rows, const struct dot *a)
{
#define ENTRY(name, ...) [DTYPE_##name] = {DIRECT_ROWS(DIRECT_ENTRY, name, )},
    static dot_function *const functions[DTYPE_COUNT][GROUP_MAX] = {PACKING_LIST(ENTRY)};
#undef ENTRY
    functions[dtype][rows - 1](a);
}
#endif

static void unpack(enum dtype dtype, const uint8_t *packed, int blocks, const struct panel *out)
{
#define ENTRY(name, ...) [DTYPE_##name] = unpack_##name,
    static void (*const functions[DTYPE_COUNT])(const uint8_t *, int,
                                                const struct panel *) = {PACKING_LIST(ENTRY)};
#undef ENTRY
    functions[dtype](packed, blocks, out);
}

static void panel_tiles(enum dtype dtype, int rows, int tiles, const struct dot *a)
{
#define ENTRY(name, ...) {PANEL_SHAPES(PANEL_ENTRY, name, )},
    static dot_function *const functions[][2][GROUP_MAX] = {PANEL_LIST(ENTRY)};
#undef ENTRY
    functions[panel_kind(packings[dtype])][tiles - 1][rows - 1](a);
}
