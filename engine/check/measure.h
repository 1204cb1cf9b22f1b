/* How far a result is from the reference's, and how far it may be. */
#ifndef HEARTH_CHECK_MEASURE_H
#define HEARTH_CHECK_MEASURE_H

#include "../../kernels/device.h"

/* Relative to the root mean square of the reference's row; of a value that is larger than that, to itself. */
struct check_error {
    double max;     /* of one value */
    double rms;     /* of all; rows count alike */
    bool finite;    /* of the tested side */
};

/* reference and tested: [rows][width]. ERR_FORMAT where the reference's values are not finite. */
int check_measure(const float *reference, const float *tested, size_t rows, size_t width,
                  struct check_error *out, struct err *) WARN_UNUSED;

/* What is compared: the result of one operator, or of many one after the other. */
enum check_kind { CHECK_OPERATOR, CHECK_LAYER, CHECK_LAYERS, CHECK_LOGITS };

struct check_bound {
    double max, rms;
};
struct check_bound check_bound(const struct device_info *, enum check_kind, enum operator, int rows);
bool check_within(const struct check_error *, const struct check_bound *);

/* "layer 3, attention: max 0.8, bound 0.01" */
void check_describe(char *out, size_t size, const char *where, const struct check_error *,
                    const struct check_bound *);

/* Greedy tokens must agree where the reference's best logit is ahead of the next by this much. */
double check_margin(const struct device_info *);

#endif
