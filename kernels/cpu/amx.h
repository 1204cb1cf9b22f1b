/* Tile operations of Intel AMX: the instructions, or with CPU_AMX_EMULATED the same in C, so that tests
 * need no such processor. Tiles are named by constants. */
#ifndef HEARTH_CPU_AMX_H
#define HEARTH_CPU_AMX_H

#include <stdint.h>

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
_Static_assert(sizeof(struct tile_config) == 64, "as the processor reads it");

#if defined(CPU_AMX_EMULATED)
#include <string.h>

#include "../err.h"

/* A thread's tiles. What the instructions would refuse is a broken invariant here. */
static _Thread_local struct tile_state {
    struct tile_config config;
    uint8_t data[8][16][64];
} tile_state;

static inline void tile_configure(const struct tile_config *config)
{
    memset(&tile_state, 0, sizeof tile_state);
    tile_state.config = *config;
}

static inline void tile_release(void)
{
    memset(&tile_state, 0, sizeof tile_state);
}

static inline void tile_zero(int tile)
{
    REQUIRE(tile_state.config.palette == 1 && tile_state.config.rows[tile] > 0);
    memset(tile_state.data[tile], 0, sizeof tile_state.data[tile]);
}

static inline void tile_load(int tile, const void *from, int stride)
{
    tile_zero(tile);
    for (int r = 0; r < tile_state.config.rows[tile]; r++)
        memcpy(tile_state.data[tile][r], (const char *)from + r * stride, tile_state.config.row_bytes[tile]);
}

static inline void tile_store(int tile, void *to, int stride)
{
    REQUIRE(tile_state.config.palette == 1 && tile_state.config.rows[tile] > 0);
    for (int r = 0; r < tile_state.config.rows[tile]; r++)
        memcpy((char *)to + r * stride, tile_state.data[tile][r], tile_state.config.row_bytes[tile]);
}

/* sum [M][N] += a [M][K][4] * b [K][N][4], signed bytes */
static inline void tile_dot(int sum, int a, int b)
{
    const struct tile_config *c = &tile_state.config;
    int M = c->rows[sum], K = c->rows[b], N = c->row_bytes[sum] / 4;
    REQUIRE(c->palette == 1 && c->rows[a] == M && c->row_bytes[a] == 4 * K && c->row_bytes[b] == 4 * N);
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            int32_t total;
            memcpy(&total, &tile_state.data[sum][m][4 * n], 4);
            for (int k = 0; k < 4 * K; k++)
                total += (int8_t)tile_state.data[a][m][k] * (int8_t)tile_state.data[b][k / 4][4 * n + k % 4];
            memcpy(&tile_state.data[sum][m][4 * n], &total, 4);
        }
}
#else
#include <immintrin.h>

/* The intrinsics do not tell gcc that all of the configuration is read. */
#define tile_configure(config) \
    do { \
        __asm__ volatile("" : : "r"(config) : "memory"); \
        _tile_loadconfig(config); \
    } while (0)
#define tile_release() _tile_release()
#define tile_zero(tile) _tile_zero(tile)
#define tile_load(tile, from, stride) _tile_loadd(tile, from, stride)
#define tile_store(tile, to, stride) _tile_stored(tile, to, stride)
#define tile_dot(sum, a, b) _tile_dpbssd(sum, a, b)
#endif

#endif
