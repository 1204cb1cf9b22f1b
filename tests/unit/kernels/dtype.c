/* Every GGUF element type, decoded, against values of an independent implementation (the gguf
 * Python package) for bytes of a small linear congruential generator. */
#include <criterion/criterion.h>
#include <math.h>

#include "../../../kernels/device.h"

static const int at[7] = {0, 1, 17, 100, 255, 300, 511};

static const struct {
    enum dtype dtype;
    uint32_t seed;
    float want[7]; /* elements `at` of 512 */
} cases[] = {
    {DTYPE_BF16, 10, {1.71894499e-10f, 4.09260113e-33f, -3.47621596e+16f, 6.84531324e+32f, 1769472, 0.000896453857f, 2.04308464e+26f}},
    {DTYPE_Q4_0, 4, {-0.0992431641f, 0.132324219f, -0.0827026367f, -24.828125f, -0.032989502f, 20532, 0.0216159821f}},
    {DTYPE_Q4_1, 4, {-36.6359863f, -36.6359863f, -36.5863647f, 0.00227594376f, 70.109375f, -15176, -0.312469482f}},
    {DTYPE_Q5_0, 2, {-257280, -171520, 150080, -50.5078125f, -0.274810791f, 2751, -168.890625f}},
    {DTYPE_Q5_1, 2, {471678.688f, 385918.688f, 235838.703f, -0.146805048f, 9216, -0.411952019f, -24767.998f}},
    {DTYPE_Q8_0, 12, {3017.25f, 9387, 24473.25f, 256872, -315.140625f, 0.0120513439f, -22724.5f}},
    {DTYPE_Q2_K, 1, {-0.00101351738f, -0.041731596f, -0.0491936207f, -0.00405406952f, -0.0299508572f, -0.0208711624f, -0.00896561146f}},
    {DTYPE_Q3_K, 1, {-110.085938f, -36.6953125f, 267.351562f, -0, -566.15625f, 3.48815918f, 4.88342285f}},
    {DTYPE_Q4_K, 1, {57457.125f, 14365.126f, 52669.125f, 83802.3828f, 154421.719f, 3.26506615f, 6.8760252f}},
    {DTYPE_Q5_K, 1, {33517.125f, 148429.125f, 143641.125f, 33528.3867f, 85793.7266f, 721.269043f, 181.924332f}},
    {DTYPE_Q6_K, 4, {2.47892761f, -12.3946381f, -4.57600021f, 8.01269531f, -8.53852844f, 11943.25f, -8263.0625f}},
    {DTYPE_IQ4_NL, 9, {0.0786399841f, -0.262823105f, -0.262823105f, 1768.875f, 1623.125f, 0.569152832f, 3051.5625f}},
    {DTYPE_IQ4_XS, 8, {0.0307038426f, -0.0118091702f, 0.0599905849f, 0.00290977955f, 0.0310439467f, 0.261845946f, -0.454919577f}},
};

static void fill(uint32_t seed, uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(seed >> 24);
    }
}

Test(dtype, decodes_like_the_format)
{
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        enum dtype t = cases[c].dtype;
        uint8_t bytes[2048];
        float got[512];
        fill(cases[c].seed, bytes, 512 / dtype_block(t) * dtype_block_bytes(t));
        dtype_to_f32(t, bytes, 512, got);
        for (int i = 0; i < 7; i++)
            cr_assert(fabsf(got[at[i]] - cases[c].want[i]) <= 2e-6f * fabsf(cases[c].want[i]),
                      "%s[%d]: %.9g, not %.9g", dtype_name(t), at[i], (double)got[at[i]], (double)cases[c].want[i]);
    }
}

Test(dtype, f16_covers_its_range)
{
    const uint16_t half[] = {0x0000, 0x8000, 0x3c00, 0xc000, 0x7bff, 0x0001, 0x0400, 0x3555};
    const float want[] = {0, -0.0f, 1, -2, 65504, 0x1p-24f, 0x1p-14f, 0.333251953125f};
    float got[8];
    uint16_t back[8];
    dtype_to_f32(DTYPE_F16, half, 8, got);
    cr_assert_arr_eq(got, want, sizeof want);
    cr_assert_eq(dtype_from_f32(DTYPE_F16, got, 8, back), 0);
    cr_assert_arr_eq(back, half, sizeof half);
    const float odd[] = {65520, 1e30f, -1e30f, 0x1p-26f, 1 + 0x1p-11f, 1 + 0x1.8p-10f};
    const uint16_t rounded[] = {0x7c00, 0x7c00, 0xfc00, 0x0000, 0x3c00, 0x3c02};
    cr_assert_eq(dtype_from_f32(DTYPE_F16, odd, 6, back), 0);
    cr_assert_arr_eq(back, rounded, sizeof rounded);
}

Test(dtype, encoding_comes_back_within_a_step)
{
    static const struct {
        enum dtype dtype;
        float error; /* of values in -1 … 1 */
    } encodable[] = {{DTYPE_F32, 0},        {DTYPE_F16, 5e-4f},    {DTYPE_BF16, 4e-3f}, {DTYPE_Q8_0, 4.1e-3f},
                     {DTYPE_Q5_1, 0.034f}, {DTYPE_Q5_0, 0.064f}, {DTYPE_Q4_1, 0.068f}, {DTYPE_Q4_0, 0.127f}};
    float x[512], y[512];
    uint8_t bytes[4096];
    fill(7, bytes, 512);
    for (int i = 0; i < 512; i++)
        x[i] = (float)bytes[i] / 127.5f - 1;
    for (size_t c = 0; c < sizeof encodable / sizeof *encodable; c++) {
        cr_assert_eq(dtype_from_f32(encodable[c].dtype, x, 512, bytes), 0);
        dtype_to_f32(encodable[c].dtype, bytes, 512, y);
        for (int i = 0; i < 512; i++)
            cr_assert(fabsf(x[i] - y[i]) <= encodable[c].error, "%s: %g became %g", dtype_name(encodable[c].dtype),
                      (double)x[i], (double)y[i]);
    }
    cr_assert_eq(dtype_from_f32(DTYPE_Q6_K, x, 512, bytes), ERR_UNSUPPORTED);
}

Test(dtype, gguf_numbers)
{
    cr_assert_eq(dtype_from_gguf(12), DTYPE_Q4_K);
    cr_assert_eq(dtype_from_gguf(4), -1); /* Q4_2, withdrawn */
    cr_assert_eq(dtype_from_gguf(UINT32_MAX), -1);
}
