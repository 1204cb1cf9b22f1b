/* Paged KV bookkeeping: nothing is lost, nothing is given away twice, shared blocks are copied. */
#include <criterion/criterion.h>
#include <string.h>

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

/* ---- what blocks hold ---- */

static const int32_t text[] = {5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
static int idle;

/* `t` computes the first n tokens, and others may find them. */
static void compute(struct kv_table *t, const int32_t *tokens, int n)
{
    kv_table_extend(t, kv, 0, n, &copies);
    kv_table_publish(t, kv, tokens, n);
}

Test(kv_blocks, full_blocks_are_found_again)
{
    compute(&a, text, 10);
    int32_t first = a.block[0], second = a.block[1];
    kv_table_clear(&a, kv);
    cr_expect_eq(kv_blocks_free(kv), 10);
    cr_expect_eq(kv_blocks_cached(kv), 2);
    cr_expect_eq(kv_table_find(&b, kv, text, 7, &idle), 1);
    cr_assert_eq(kv_table_find(&b, kv, text, 16, &idle), 2);
    cr_expect_eq(idle, 2);
    kv_table_adopt(&b, kv, text, 2);
    cr_expect_eq(b.block[0], first);
    cr_expect_eq(b.block[1], second);
    cr_expect_eq(kv_blocks_free(kv), 8);
    cr_expect_eq(kv_table_find(&c, kv, text, 16, &idle), 2);
    cr_expect_eq(idle, 0);
}

Test(kv_blocks, other_tokens_or_another_root_are_not_found)
{
    int32_t other[16];
    compute(&a, text, 16);
    for (int i = 0; i < 16; i++) {
        memcpy(other, text, sizeof other);
        other[i]++;
        cr_expect_eq(kv_table_find(&b, kv, other, 16, &idle), i / 4, "token %d", i);
    }
    kv_table_root(&b, prefix_root("salt", 4), 0);
    cr_expect_eq(kv_table_find(&b, kv, text, 16, &idle), 0);
    /* the same block in another place is another block */
    cr_expect_eq(kv_table_find(&c, kv, text + 4, 12, &idle), 0);
}

Test(kv_blocks, a_table_goes_on_finding)
{
    compute(&a, text, 4);
    kv_table_adopt(&b, kv, text, kv_table_find(&b, kv, text, 16, &idle));
    cr_expect_eq(b.n, 1);
    kv_table_extend(&a, kv, 4, 8, &copies);
    kv_table_publish(&a, kv, text, 12);
    cr_assert_eq(kv_table_find(&b, kv, text, 16, &idle), 2);
    kv_table_adopt(&b, kv, text, 2);
    kv_table_extend(&b, kv, 12, 4, &copies);
    kv_table_publish(&b, kv, text, 16);
    cr_expect_eq(kv_table_find(&c, kv, text, 16, &idle), 4);
}

Test(kv_blocks, nobody_writes_into_what_can_be_found)
{
    compute(&a, text, 8);
    int32_t found = a.block[1];
    cr_expect_eq(kv_table_need(&a, kv, 7, 1), 1);
    kv_table_extend(&a, kv, 7, 1, &copies);
    cr_expect_eq(copies.n, 1);
    cr_expect_eq(pairs[0], found);
    cr_expect_neq(a.block[1], found);
    cr_expect_eq(kv_blocks_cached(kv), 1);
}

Test(kv_blocks, the_longest_idle_go_first_and_beginnings_last)
{
    int32_t other[] = {1, 2, 3, 4, 5, 6, 7, 8};
    compute(&a, text, 16);
    compute(&b, other, 8);
    kv_table_clear(&a, kv);
    kv_table_clear(&b, kv);
    kv_table_extend(&c, kv, 0, 4 * 6, &copies); /* four blocks hold nothing, two of the oldest go */
    cr_expect_eq(kv_table_find(&a, kv, text, 16, &idle), 2);
    cr_expect_eq(kv_table_find(&a, kv, other, 8, &idle), 2);
    kv_table_extend(&c, kv, 24, 4 * 2, &copies);
    cr_expect_eq(kv_table_find(&a, kv, text, 16, &idle), 0);
    cr_expect_eq(kv_table_find(&a, kv, other, 8, &idle), 2);
    kv_table_extend(&c, kv, 32, 4, &copies);
    cr_expect_eq(kv_table_find(&a, kv, other, 8, &idle), 1);
    cr_expect_eq(kv_blocks_free(kv), 1);
}

Test(kv_blocks, two_that_computed_the_same)
{
    compute(&a, text, 8);
    kv_table_extend(&b, kv, 0, 8, &copies);
    kv_table_publish(&b, kv, text, 8);
    kv_table_clear(&b, kv);
    cr_expect_eq(kv_blocks_cached(kv), 0);
    cr_expect_eq(kv_blocks_free(kv), 8);
    cr_expect_eq(kv_table_find(&c, kv, text, 8, &idle), 2);
}
