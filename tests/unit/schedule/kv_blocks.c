/* Paged KV bookkeeping: nothing is lost, nothing is given away twice, shared blocks are copied. */
#include <criterion/criterion.h>

#include "../../../engine/schedule/kv_blocks.h"

static struct kv_blocks *kv;
static struct kv_table a, b, c;
static int32_t pairs[2 * 8];
static struct kv_copies copies;
static struct err err;

static void setup(void)
{
    copies = (struct kv_copies){pairs, 0, 8};
    cr_assert_eq(kv_blocks_create(&kv, 10, 4, &err), 0);
    cr_assert_eq(kv_table_create(&a, kv, 40, &err), 0);
    cr_assert_eq(kv_table_create(&b, kv, 40, &err), 0);
    cr_assert_eq(kv_table_create(&c, kv, 40, &err), 0);
}

static void teardown(void)
{
    kv_table_clear(&a, kv);
    kv_table_clear(&b, kv);
    kv_table_clear(&c, kv);
    cr_expect_eq(kv_blocks_free(kv), 10);
    kv_table_destroy(&a);
    kv_table_destroy(&b);
    kv_table_destroy(&c);
    kv_blocks_destroy(kv);
}

TestSuite(kv_blocks, .init = setup, .fini = teardown);

Test(kv_blocks, grows_by_blocks)
{
    cr_expect_eq(kv_table_need(&a, kv, 0, 1), 1);
    cr_expect_eq(kv_table_need(&a, kv, 0, 9), 3);
    kv_table_extend(&a, kv, 0, 9, &copies);
    cr_expect_eq(a.n, 3);
    cr_expect_eq(kv_table_need(&a, kv, 9, 3), 0);
    cr_expect_eq(kv_table_need(&a, kv, 9, 4), 1);
    cr_expect_eq(kv_blocks_free(kv), 7);
    cr_expect_eq(copies.n, 0);
}

Test(kv_blocks, slots_are_distinct)
{
    bool seen[40] = {false};
    kv_table_extend(&a, kv, 0, 20, &copies);
    kv_table_extend(&b, kv, 0, 20, &copies);
    for (int i = 0; i < 20; i++) {
        int32_t x = kv_table_slot(&a, kv, i), y = kv_table_slot(&b, kv, i);
        cr_assert(!seen[x]);
        seen[x] = true;
        cr_assert(!seen[y]);
        seen[y] = true;
        cr_expect_eq(x % 4, i % 4);
    }
    cr_expect_eq(kv_blocks_free(kv), 0);
}

Test(kv_blocks, fork_copies_on_write)
{
    kv_table_extend(&a, kv, 0, 6, &copies);
    kv_table_fork(&b, &a, kv, 6);
    kv_table_fork(&c, &a, kv, 6);
    cr_expect_eq(kv_blocks_free(kv), 8);
    cr_expect_eq(kv_table_need(&b, kv, 6, 1), 1);
    int32_t shared = a.block[1];
    kv_table_extend(&b, kv, 6, 1, &copies);
    kv_table_extend(&a, kv, 6, 1, &copies);
    kv_table_extend(&c, kv, 6, 1, &copies); /* the last one owns the block by now */
    cr_expect_eq(copies.n, 2);
    cr_expect_eq(pairs[0], shared);
    cr_expect_eq(pairs[1], b.block[1]);
    cr_expect_eq(pairs[2], shared);
    cr_expect_eq(pairs[3], a.block[1]);
    cr_expect_eq(c.block[1], shared);
    cr_expect_eq(a.block[0], c.block[0]);
    cr_expect_eq(kv_blocks_free(kv), 6);
}

Test(kv_blocks, fork_at_a_block_border_shares_all)
{
    kv_table_extend(&a, kv, 0, 8, &copies);
    kv_table_fork(&b, &a, kv, 8);
    kv_table_extend(&b, kv, 8, 1, &copies);
    cr_expect_eq(copies.n, 0);
    kv_table_clear(&a, kv);
    cr_expect_eq(kv_blocks_free(kv), 7);
}
