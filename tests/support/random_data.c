/* Seeded numbers and weights for tests of the devices. */
#include "random_data.h"

#include <string.h>

#include "../../kernels/backend.h"

static uint32_t random_state = 1;

void random_seed(uint32_t seed)
{
    random_state = seed * 2654435761u | 1;
}

uint32_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

int random_below(int n)
{
    return (int)((random_bits() >> 3) % (uint32_t)n);
}

float random_normal(void)
{
    float sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (float)(random_bits() >> 8) / 16777216.0f - 0.5f;
    return sum * 1.73f;
}

float *random_floats(size_t n)
{
    float *x = malloc(n * sizeof *x);
    REQUIRE(x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_normal() * (random_bits() % 97 == 0 ? 20.0f : 1.0f);
    return x;
}

uint8_t *random_weight(enum dtype dtype, size_t count)
{
    /* Of a block: where its f16 factor and that of its minimum lie (-1: none), and how many times the first
     * the second is for values around zero, as those of models are. */
    static const struct {
        enum dtype dtype;
        int factor, minimum;
        float centre;
    } blocks_of[] = {
        {DTYPE_Q4_0,   0,   -1, 0     },
        {DTYPE_Q4_1,   0,   2,  -7.5f },
        {DTYPE_Q5_0,   0,   -1, 0     },
        {DTYPE_Q5_1,   0,   2,  -15.5f},
        {DTYPE_Q8_0,   0,   -1, 0     },
        {DTYPE_Q2_K,   80,  82, 1.5f  },
        {DTYPE_Q3_K,   108, -1, 0     },
        {DTYPE_Q4_K,   0,   2,  7.5f  },
        {DTYPE_Q5_K,   0,   2,  15.5f },
        {DTYPE_Q6_K,   208, -1, 0     },
        {DTYPE_IQ4_NL, 0,   -1, 0     },
        {DTYPE_IQ4_XS, 0,   -1, 0     },
    };
    size_t blocks = count / dtype_block(dtype), size = dtype_block_bytes(dtype);
    uint8_t *data = malloc(blocks * size);
    REQUIRE(data);
    if (dtype_block(dtype) == 1) {
        for (size_t i = 0; i < count; i++) {
            float x = random_normal() * 0.1f;
            REQUIRE(dtype_from_f32(dtype, &x, 1, data + i * size) == 0);
        }
        return data;
    }
    for (size_t i = 0; i < blocks * size; i++)
        data[i] = (uint8_t)(random_bits() >> 11);
    for (size_t f = 0; f < sizeof blocks_of / sizeof *blocks_of; f++)
        for (size_t b = 0; b < blocks && blocks_of[f].dtype == dtype; b++) {
            float d = 0.001f + 0.01f * (float)(random_bits() >> 8) / 16777216.0f;
            uint16_t factor = f32_to_f16(d), minimum = f32_to_f16(d * blocks_of[f].centre);
            memcpy(data + b * size + blocks_of[f].factor, &factor, 2);
            if (blocks_of[f].minimum >= 0)
                memcpy(data + b * size + blocks_of[f].minimum, &minimum, 2);
        }
    return data;
}
