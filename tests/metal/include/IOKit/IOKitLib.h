/* Declarations of the few functions of Apple's IOKit that hearth uses: see Metal/Metal.h beside this. */
#ifndef HEARTH_TEST_IOKIT_H
#define HEARTH_TEST_IOKIT_H

#include <stdint.h>

#ifndef MACH_PORT_NULL
#define MACH_PORT_NULL 0
#endif

typedef unsigned int io_object_t;
typedef io_object_t io_service_t;
typedef uint32_t IOOptionBits;
typedef const void *CFTypeRef;
typedef const struct __CFString *CFStringRef;
typedef const struct __CFAllocator *CFAllocatorRef;
typedef const struct __CFDictionary *CFDictionaryRef;
typedef struct __CFMutableDictionary *CFMutableDictionaryRef;
#define kCFAllocatorDefault ((CFAllocatorRef)0)

CFMutableDictionaryRef IOServiceMatching(const char *name);
io_service_t IOServiceGetMatchingService(unsigned int port, CFMutableDictionaryRef matching);
CFTypeRef IORegistryEntryCreateCFProperty(io_object_t entry, CFStringRef key, CFAllocatorRef, IOOptionBits);
int IOObjectRelease(io_object_t object);

#endif
