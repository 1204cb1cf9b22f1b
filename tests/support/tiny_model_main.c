/* tiny-model OUT [options]: writes a small random model for tests that are no C programs. */
#include <getopt.h>
#include <string.h>

#include "tiny_model.h"

static int parse_dtype(const char *name)
{
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (strcmp(dtype_name(t), name) == 0 && dtype_is_weight(t))
            return t;
    return -1;
}

static const char *read_text(const char *path)
{
    static char text[1 << 20];
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = 0;
    return f ? text : NULL;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"arch", required_argument, NULL, 'a'}, {"layers", required_argument, NULL, 'l'},
        {"width", required_argument, NULL, 'w'}, {"ff", required_argument, NULL, 'f'},
        {"heads", required_argument, NULL, 'h'}, {"kv-heads", required_argument, NULL, 'k'},
        {"vocab", required_argument, NULL, 'v'}, {"context", required_argument, NULL, 'c'},
        {"dtype", required_argument, NULL, 'd'}, {"parts", required_argument, NULL, 'p'},
        {"pre", required_argument, NULL, 'r'}, {"template", required_argument, NULL, 't'},
        {"seed", required_argument, NULL, 's'}, {"mixed", no_argument, NULL, 'm'},
        {"untied", no_argument, NULL, 'u'}, {"lora", required_argument, NULL, 'L'},
        {"alpha", required_argument, NULL, 'A'}, {0},
    };
    struct tiny_model_options o = {0};
    struct err err;
    int c, type = DTYPE_F32;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1)
        switch (c) {
        case 'a': o.architecture = optarg; break;
        case 'l': o.layers = atoi(optarg); break;
        case 'w': o.width = atoi(optarg); break;
        case 'f': o.ff = atoi(optarg); break;
        case 'h': o.heads = atoi(optarg); break;
        case 'k': o.kv_heads = atoi(optarg); break;
        case 'v': o.vocab = atoi(optarg); break;
        case 'c': o.context = atoi(optarg); break;
        case 'd': type = parse_dtype(optarg); break;
        case 'p': o.parts = atoi(optarg); break;
        case 'r': o.pre = optarg; break;
        case 't': o.chat_template = read_text(optarg); break;
        case 's': o.seed = strtoull(optarg, NULL, 0); break;
        case 'm': o.mixed = true; break;
        case 'L': o.lora_rank = atoi(optarg); break;
        case 'A': o.lora_alpha = strtof(optarg, NULL); break;
        case 'u': o.untied = true; break;
        default: return 2;
        }
    if (optind != argc - 1 || type < 0) {
        fprintf(stderr, "usage: tiny-model OUT [--arch qwen2|llama|qwen3] [--dtype TYPE] [--mixed]\n"
                        "  [--untied] [--layers N] [--width N] [--ff N] [--heads N] [--kv-heads N]\n"
                        "  [--vocab N] [--context N] [--parts N] [--seed N] [--pre NAME]\n"
                        "  [--template FILE] [--lora RANK: an adapter for such a model] [--alpha X]\n");
        return 2;
    }
    o.matrix = o.embedding = o.output = (enum dtype)type;
    if (tiny_model_write(&o, argv[optind], &err) != 0) {
        fprintf(stderr, "tiny-model: %s\n", err.text);
        return 1;
    }
    return 0;
}
