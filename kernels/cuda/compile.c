/* Machine code for the card that was found. Either from PTX that was embedded when hearth was built, by
 * the driver's own compiler, or from the kernels' source by NVRTC where that is installed; what came out
 * is kept on disk (cache.c).
 *
 * Contraction of a*b + c is allowed (--fmad=true, here and in the build): all comparisons with the CPU
 * have stated bounds, and the kernels live from it. Nothing else of fast-math is. */
#include <string.h>
#include <xxhash.h>

#include "driver.h"
#include "ptx.h"

const char *cuda_module_name(int module)
{
    return module == 0 ? "plain" : gpu_weight_names[module - 1];
}

static const struct cuda_ptx *find_ptx(int module, int arch)
{
    for (const struct cuda_ptx *p = cuda_ptx; p->module && arch >= CUDA_PTX_ARCH; p++)
        if (strcmp(p->module, cuda_module_name(module)) == 0)
            return p;
    return NULL;
}

/* A copy of the PTX, which is for compute capability 8.0, as 9.0 and later want it: with the instructions
 * of dependent launch, which stand there as comments. All else of it is the same for both. NULL: no memory. */
static char *ptx_for_90(const struct cuda_ptx *ptx)
{
    static const char target[] = ".target sm_80", comment[] = "//sm_90 ";
    char *text = malloc(ptx->bytes);
    if (!text)
        return NULL;
    memcpy(text, ptx->text, ptx->bytes);
    char *at = strstr(text, target);
    if (at)
        at[sizeof target - 3] = '9';
    for (at = text; (at = strstr(at, comment));)
        memset(at, ' ', sizeof comment - 1);
    return text;
}

static struct cuda_cache_key make_key(struct cuda *c, int module, const char *text, size_t bytes, int compiler)
{
    XXH128_hash_t hash = XXH3_128bits(text, bytes);
    struct {
        uint64_t hash[2];
        int arch, version, compiler, format;
    } all = {{hash.low64, hash.high64}, c->arch, c->version, compiler, 1};
    hash = XXH3_128bits(&all, sizeof all);
    return (struct cuda_cache_key){.hash = {hash.low64, hash.high64}, .module = cuda_module_name(module)};
}

static bool use_cached(struct cuda *c, int module, const struct cuda_cache_key *key,
                       int (*use)(struct cuda *, int, const void *))
{
    size_t bytes;
    void *cubin = cuda_cache_read(key, &bytes);
    bool used = cubin && use(c, module, cubin) == 0;
    free(cubin);
    return used;
}

/* The first line of a compiler's log, for a message. */
static const char *first_line(char *log)
{
    log[strcspn(log, "\n")] = 0;
    return log;
}

/* PTX to code by the driver. */
static int link_ptx(struct cuda *c, int module, const char *ptx, size_t bytes, const struct cuda_cache_key *key,
                    int (*use)(struct cuda *, int, const void *), struct err *err)
{
    char log[1024] = "";
    int options[] = {CUDA_JIT_ERROR_LOG, CUDA_JIT_ERROR_LOG_BYTES};
    void *values[] = {log, (void *)(sizeof log - 1)};
    struct cuda_link *link = NULL;
    void *cubin;
    size_t cubin_bytes;
    const char *what = "compiling kernels";
    int error = c->api.link_create(2, options, values, &link);
    if (error == 0)
        error = c->api.link_add(link, CUDA_JIT_INPUT_PTX, (void *)ptx, bytes, cuda_module_name(module), 0, NULL,
                                NULL);
    if (error == 0)
        error = c->api.link_complete(link, &cubin, &cubin_bytes);
    if (error == 0) {
        what = "loading kernels";
        error = use(c, module, cubin);
    }
    if (error == 0)
        cuda_cache_write(key, cubin, cubin_bytes);
    if (link)
        c->api.link_destroy(link);
    if (error == 0)
        return 0;
    struct err reason;
    cuda_call_failed(c, error, what, &reason);
    return err_set(err, ERR_DEVICE, "%s%s%s", reason.text, *log ? ": " : "", first_line(log));
}

/* The newest architecture that NVRTC knows and the card can run; 0: none. */
static int newest_arch(const struct nvrtc_api *nvrtc, int arch)
{
    int n = 0, archs[128], best = 0;
    if (nvrtc->arch_count(&n) != 0 || n <= 0 || n > 128 || nvrtc->archs(archs) != 0)
        return 0;
    for (int i = 0; i < n; i++)
        if (archs[i] <= arch && archs[i] > best)
            best = archs[i];
    return best;
}

/* The source compiled; *out is the caller's: code, or PTX with `code` false. */
static int run_nvrtc(const struct nvrtc_api *nvrtc, int module, int arch, bool code, char **out, size_t *bytes,
                     struct err *err)
{
    char target[48], weight[64];
    snprintf(target, sizeof target, "--gpu-architecture=%s_%d", code ? "sm" : "compute", arch);
    snprintf(weight, sizeof weight, "-DGPU_WEIGHT_NAME=%s", cuda_module_name(module));
    const char *options[] = {target, "--std=c++17", "--fmad=true", "--ftz=false", "--prec-div=true",
                             "--prec-sqrt=true", "-DGPU_TYPED=1", weight};
    int n_options = (int)(sizeof options / sizeof *options) - (module == 0 ? 2 : 0);
    struct nvrtc_program *program = NULL;
    char *log = NULL;
    size_t log_bytes = 0;
    *out = NULL;
    int rc = 0, error = nvrtc->create(&program, gpu_source, "kernels.cu", 0, NULL, NULL);
    if (error == 0)
        error = nvrtc->compile(program, n_options, options);
    if (error != 0) {
        if (program && nvrtc->log_bytes(program, &log_bytes) == 0 && log_bytes > 0)
            log = calloc(1, log_bytes + 1);
        if (log)
            nvrtc->log(program, log);
        rc = err_set(err, ERR_DEVICE, "NVRTC does not compile the %s kernels (error %d)%s%s",
                     cuda_module_name(module), error, log ? ": " : "", log ? first_line(log) : "");
        goto end;
    }
    error = code ? nvrtc->cubin_bytes(program, bytes) : nvrtc->ptx_bytes(program, bytes);
    if (error == 0 && !(*out = malloc(*bytes + 1)))
        rc = err_set(err, ERR_NOMEM, "out of memory for compiled kernels");
    if (error == 0 && rc == 0)
        error = code ? nvrtc->cubin(program, *out) : nvrtc->ptx(program, *out);
    if (error != 0)
        rc = err_set(err, ERR_DEVICE, "NVRTC gives no code for the %s kernels (error %d)", cuda_module_name(module),
                     error);
end:
    if (rc < 0) {
        free(*out);
        *out = NULL;
    }
    free(log);
    if (program)
        nvrtc->destroy(&program);
    return rc;
}

static int compile_source(struct cuda *c, int module, int (*use)(struct cuda *, int, const void *), struct err *err)
{
    struct nvrtc_api nvrtc;
    int major = 0, minor = 0;
    int rc = nvrtc_api_load(&nvrtc, err);
    if (rc < 0)
        return rc;
    nvrtc.version(&major, &minor);
    struct cuda_cache_key key = make_key(c, module, gpu_source, strlen(gpu_source), major * 1000 + minor);
    if (use_cached(c, module, &key, use))
        return 0;
    int arch = newest_arch(&nvrtc, c->arch);
    bool code = arch == c->arch; /* else PTX, which the driver makes code of */
    if (arch == 0)
        return err_set(err, ERR_UNSUPPORTED, "NVRTC %d.%d knows no card as old as compute capability %d.%d", major,
                       minor, c->arch / 10, c->arch % 10);
    char *out;
    size_t bytes;
    rc = run_nvrtc(&nvrtc, module, arch, code, &out, &bytes, err);
    if (rc < 0)
        return rc;
    if (code) {
        int error = use(c, module, out);
        if (error == 0)
            cuda_cache_write(&key, out, bytes);
        else
            rc = cuda_call_failed(c, error, "loading kernels", err);
    } else {
        rc = link_ptx(c, module, out, bytes, &key, use, err);
    }
    free(out);
    return rc;
}

static int compile_ptx(struct cuda *c, int module, const struct cuda_ptx *ptx,
                       int (*use)(struct cuda *, int, const void *), struct err *err)
{
    char *text = c->arch >= 90 ? ptx_for_90(ptx) : NULL;
    if (c->arch >= 90 && !text)
        return err_set(err, ERR_NOMEM, "out of memory for kernels");
    /* Taken whole, and kept in a cache of its own, the driver compiles it best: for its linker, whose result could
     * be kept here, kernels need more registers, and some spill. */
    if (use(c, module, text ? text : ptx->text) == 0) {
        free(text);
        return 0;
    }
    struct cuda_cache_key key = make_key(c, module, ptx->text, ptx->bytes, 0);
    if (use_cached(c, module, &key, use)) {
        free(text);
        return 0;
    }
    int rc = link_ptx(c, module, text ? text : ptx->text, ptx->bytes, &key, use, err);
    free(text);
    return rc;
}

int cuda_compile(struct cuda *c, int module, int (*use)(struct cuda *, int, const void *), struct err *err)
{
    struct err reason = {0};
    const struct cuda_ptx *ptx = find_ptx(module, c->arch);
    if (ptx && compile_ptx(c, module, ptx, use, &reason) == 0)
        return 0;
    struct err other;
    int rc = compile_source(c, module, use, &other);
    if (rc < 0 && ptx) /* a driver older than nvcc's PTX; NVRTC may fit it */
        return err_set(err, ERR_UNSUPPORTED, "%s; and %s: install a newer driver, or NVRTC of the driver's version",
                       reason.text, other.text);
    if (rc == ERR_UNSUPPORTED)
        return err_set(err, rc, "%s: this build has no kernels for compute capability %d.%d, and %s: install NVRTC "
                       "(package cuda-nvrtc of the driver's CUDA version), or build hearth where nvcc is",
                       c->name, c->arch / 10, c->arch % 10, other.text);
    if (rc < 0)
        return err_set(err, rc, "%s", other.text);
    return 0;
}
