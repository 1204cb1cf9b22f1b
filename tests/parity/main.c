/* Runs the parity table: parity [--operator NAME] [DEVICE…]. One line for every device, operator and weight
 * type; a device that is not there is a SKIP, never a PASS. Exit status 1 after a failure, 77 where nothing
 * was run. */
#include <string.h>

#include "parity.h"

static const struct tested {
    const char *label, *name;
    enum activations activations;
    const char *variable; /* set to "unified" */
} devices[] = {
    {"cpu", "cpu", ACTIVATIONS_AUTO, NULL},
    {"emulator", "emulator", ACTIVATIONS_AUTO, NULL},
    {"emulator-unified", "emulator", ACTIVATIONS_AUTO, "HEARTH_EMULATOR"},
    {"emulator-int8", "emulator", ACTIVATIONS_INT8, NULL},
    {"cuda", "cuda", ACTIVATIONS_AUTO, NULL},
    {"cuda-int8", "cuda", ACTIVATIONS_INT8, NULL},
    {"metal", "metal", ACTIVATIONS_AUTO, NULL},
};
#define N_DEVICES (sizeof devices / sizeof *devices)

static const struct {
    const char *name;
    void (*run)(struct parity *, enum dtype);
} tests[OPERATOR_COUNT + 1] = {
#define OPERATOR(name, ...) [OPERATOR_##name] = {#name, parity_##name},
#include "../../kernels/kernels.def"
#undef OPERATOR
    [OPERATOR_COUNT] = {"layer", parity_layer},
};

static bool takes_weight(enum operator op)
{
    for (int i = 0; i < OPERATOR_MAX_BUFFERS; i++)
        if (op == OPERATOR_COUNT || operand_access(op, i) == ACCESS_WEIGHT)
            return true;
    return false;
}

/* One line of the table; false after a failure. */
static bool run_one(struct parity *p, enum operator op, enum dtype type)
{
    p->op = op;
    p->cases = 0;
    p->max = p->rms = p->max_bound = p->rms_bound = 0;
    p->failure[0] = 0;
    random_seed((uint32_t)op * 100 + (uint32_t)type);
    tests[op].run(p, type);
    if (!p->failure[0] && p->cases == 0)
        case_fail(p, "nothing was compared");
    printf("%s %s %s %s max %.2g rms %.2g bound %.2g/%.2g cases %d%s%s\n", p->failure[0] ? "FAIL" : "PASS",
           p->name, tests[op].name, type == DTYPE_I32 ? "-" : dtype_name(type), p->max, p->rms, p->max_bound,
           p->rms_bound, p->cases, p->failure[0] ? ": " : "", p->failure);
    fflush(stdout);
    return !p->failure[0];
}

static int open_both(struct parity *p, const struct tested *t, struct err *err)
{
    if (t->variable)
        setenv(t->variable, "unified", 1);
    int rc = device_open(&p->device[TESTED],
                         &(struct device_options){.name = t->name, .activations = t->activations}, err);
    if (t->variable)
        unsetenv(t->variable);
    if (rc < 0)
        return rc;
    const struct device_info *info = device_info(p->device[TESTED]);
    rc = device_open(
        &p->device[REFERENCE],
        &(struct device_options){.name = "reference", .kv_type = info->kv_type, .int8_rows = info->int8_rows},
        err);
    if (rc < 0)
        device_close(p->device[TESTED]);
    return rc;
}

/* Number of failures; *ran says whether the device is there. */
static int run_device(const struct tested *t, const char *only, bool *ran)
{
    struct parity p = {.name = t->label, .wide = getenv("HEARTH_TEST_LONG") != NULL};
    struct err err;
    int rc = open_both(&p, t, &err), failures = 0;
    *ran = rc == 0;
    if (rc < 0) {
        printf("%s %s: %s\n", rc == ERR_UNSUPPORTED ? "SKIP" : "FAIL", t->label, err.text);
        return rc != ERR_UNSUPPORTED;
    }
    printf("# %s: %s\n", t->label, device_info(p.device[TESTED])->description);
    for (int op = 0; op <= OPERATOR_COUNT; op++) {
        if (only && strcmp(only, tests[op].name))
            continue;
        if (!takes_weight((enum operator)op))
            failures += !run_one(&p, (enum operator)op, DTYPE_I32);
        for (int type = 0; type < DTYPE_COUNT && takes_weight((enum operator)op); type++)
            if (dtype_is_weight((enum dtype)type))
                failures += !run_one(&p, (enum operator)op, (enum dtype)type);
    }
    device_close(p.device[TESTED]);
    device_close(p.device[REFERENCE]);
    return failures;
}

static bool known_operator(const char *name)
{
    for (int op = 0; op <= OPERATOR_COUNT; op++)
        if (name && !strcmp(name, tests[op].name))
            return true;
    return false;
}

int main(int argc, char **argv)
{
    const char *only = NULL;
    bool wanted[N_DEVICES] = {false}, all = true, any = false;
    int failures = 0;
    for (int i = 1; i < argc; i++) {
        size_t d = 0;
        if (!strcmp(argv[i], "--operator")) {
            only = argv[++i];
            continue;
        }
        while (d < N_DEVICES && strcmp(argv[i], devices[d].label))
            d++;
        if (d == N_DEVICES) {
            fprintf(stderr, "parity: no device \"%s\"\n", argv[i]);
            return 2;
        }
        wanted[d] = true;
        all = false;
    }
    if (argc > 1 && !strcmp(argv[argc - 1], "--operator")) {
        fprintf(stderr, "parity: --operator wants a name\n");
        return 2;
    }
    if (only && !known_operator(only)) {
        fprintf(stderr, "parity: no operator \"%s\"\n", only);
        return 2;
    }
    for (size_t d = 0; d < N_DEVICES; d++) {
        bool ran = false;
        if (all || wanted[d])
            failures += run_device(&devices[d], only, &ran);
        any |= ran;
    }
    printf("%d failed\n", failures);
    return failures ? 1 : any ? 0 : 77;
}
