/* Loads and runs mutated and truncated model files: each is refused with a reason or runs. No
 * Criterion: one process, so that sanitizers see leaks, and a mutation that hangs is caught by the
 * alarm. Arguments: count and seed; a failing case repeats with the same seed. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "../../support/tiny_model.h"
#include "../../support/try_model.h"

enum { SECONDS_PER_CASE = 20 };

static uint64_t state;

static uint64_t random_below(uint64_t n) /* xorshift64* */
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1d % n;
}

static void put_number(unsigned char *at, size_t left)
{
    static const uint64_t numbers[] = {0, 1, 2, 3, 31, 32, 33, 255, 65535, 1u << 31, UINT32_MAX, 1ull << 32,
                                       1ull << 62, 1ull << 63, UINT64_MAX, UINT64_MAX - 31};
    uint64_t value = numbers[random_below(sizeof numbers / sizeof *numbers)];
    size_t width = random_below(2) ? 4 : 8;
    memcpy(at, &value, width < left ? width : left);
}

/* Most mutations fall into metadata and tensor list; the rest anywhere. */
static void mutate(unsigned char *bytes, size_t *size, size_t header)
{
    if (random_below(5) == 0) {
        *size = random_below(random_below(2) ? header : *size);
        return;
    }
    for (uint64_t n = 1 + random_below(4); n > 0; n--) {
        size_t at = random_below(random_below(4) ? header : *size);
        switch (random_below(4)) {
        case 0: bytes[at] ^= (unsigned char)(1 << random_below(8)); break;
        case 1: bytes[at] = (unsigned char)random_below(256); break;
        case 2: put_number(bytes + at, *size - at); break;
        case 3: { /* a piece of the header moves */
            size_t from = random_below(header), length = random_below(64);
            length = length < *size - at ? length : *size - at;
            memmove(bytes + at, bytes + from, length < *size - from ? length : *size - from);
            break;
        }
        }
    }
}

int main(int argc, char **argv)
{
    static const struct tiny_model_options models[] = {
        {.architecture = "qwen2", .layers = 1, .width = 32, .ff = 64, .matrix = DTYPE_Q8_0,
         .embedding = DTYPE_Q4_0},
        {.architecture = "llama", .layers = 1, .width = 32, .ff = 64, .rope_factors = true, .yarn = 2,
         .embedding = DTYPE_Q5_1, .vector = DTYPE_F16},
        {.architecture = "qwen3", .layers = 2, .width = 256, .ff = 256, .mixed = true, .untied = true},
    };
    enum { N = sizeof models / sizeof *models };
    int count = argc > 1 ? atoi(argv[1]) : 200, results[2] = {0};
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    struct err err;
    struct device *device;
    if (device_open(&device, &(struct device_options){.name = "reference"}, &err) != 0)
        return 1;
    for (int i = 0; i < count; i++) {
        unsigned char *bytes;
        size_t size, header;
        if (tiny_model_bytes(&models[i % N], 0, &bytes, &size, &err) != 0)
            return 1;
        if (i < N && try_model(device, bytes, size, &err) != TRY_RAN) {
            fprintf(stderr, "model %d, unchanged: %s\n", i, err.text);
            return 1;
        }
        state = (seed << 32) + (uint64_t)i + 1;
        header = size < 12288 ? size : 12288;
        mutate(bytes, &size, header);
        alarm(SECONDS_PER_CASE);
        /* In memory of the exact size, so that the sanitizer sees a read beyond. */
        unsigned char *exact = malloc(size ? size : 1);
        if (!exact)
            return 1;
        memcpy(exact, bytes, size);
        results[try_model(device, exact, size, &err)]++;
        free(exact);
        free(bytes);
    }
    device_close(device);
    printf("%d mutated files, seed %" PRIu64 ": %d refused, %d ran\n", count, seed, results[TRY_REFUSED],
           results[TRY_RAN]);
    return results[TRY_REFUSED] && results[TRY_RAN] ? 0 : 1;
}
