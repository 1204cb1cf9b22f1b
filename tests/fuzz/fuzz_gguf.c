/* libFuzzer target: any bytes as a model file, loaded and run for one step on the reference device.
 * Without a seed the fuzzer starts from nothing: give it files of tiny-model. */
#include "../support/try_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct device *device;
    struct err err;
    if (size > 1 << 20)
        return -1;
    if (!device)
        REQUIRE(device_open(&device, &(struct device_options){.name = "reference"}, &err) == 0);
    try_model(device, data, size, &err);
    return 0;
}
