/* A recorder in the place of the CUDA driver. It is no GPU: it keeps memory and modules, writes down every call, and
 * executes no kernel by itself. Tests load it to see what the binding hands to a driver, and what becomes of a failure.
 *
 * RECORDER_LOG=FILE        one line for each call
 * RECORDER_FAIL=NAME:CODE  that function returns that error; NAME:CODE:N from its N-th call on
 * RECORDER_CRASH=NAME      that function kills the process
 * RECORDER_HANG=NAME       that function never returns
 * RECORDER_SPILL=N         a launch writes N bytes behind each tensor its kernel gets
 * RECORDER_CAPABILITY=86   what the device says it is (default 80)
 * RECORDER_PTX=8.4         the newest version of PTX that it takes (default: any)
 * RECORDER_NO_DEVICE=1     there is no device
 *
 * Device addresses are not host addresses: each has OFFSET added, so that one taken for the other crashes. Every
 * access is held against the live allocations. Functions as in the CUDA driver API manual.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OFFSET 0x4000000000000000ull
#define ALLOCATIONS 256
#define INVALID_VALUE 1
#define INVALID_CONTEXT 201
#define INVALID_HANDLE 400
#define ILLEGAL_ADDRESS 700

typedef uint64_t Address;
typedef void (*OnLaunch)(const char *text, const char *entry, const unsigned *geometry, unsigned shared, void **values);

typedef struct { char *text; int loaded; } Module;
typedef struct { Module *module; char entry[256]; } Function;

static struct { uint8_t *host; size_t size; } live[ALLOCATIONS];
static int is_initialised, is_retained, is_current, calls_of_failing;
static OnLaunch on_launch;

void recorder_is_not_a_gpu(OnLaunch callback) { on_launch = callback; }

void recorder_expect_failures_from_now(void) { calls_of_failing = 0; }

int recorder_live_allocations(void) {
    int count = 0;
    for (int i = 0; i < ALLOCATIONS; i++) count += live[i].host != NULL;
    return count;
}

/* What a tensor's address stands for on the host, and how much is left behind it; NULL outside of all memory. */
uint8_t *recorder_host(Address address, size_t *left) {
    for (int i = 0; i < ALLOCATIONS; i++) {
        Address base = (Address)(uintptr_t)live[i].host + OFFSET;
        if (live[i].host && address >= base && address <= base + live[i].size) {
            if (left) *left = live[i].size - (size_t)(address - base);
            return live[i].host + (address - base);
        }
    }
    return NULL;
}

static int enter(const char *name, const char *arguments) {
    const char *path = getenv("RECORDER_LOG"), *fail = getenv("RECORDER_FAIL");
    const char *crash = getenv("RECORDER_CRASH"), *hang = getenv("RECORDER_HANG");
    if (path) {
        FILE *log = fopen(path, "a");
        fprintf(log, "%s(%s)\n", name, arguments);
        fclose(log);
    }
    if (crash && !strcmp(crash, name)) {
        fprintf(stderr, "recorder: told to crash in %s\n", name);
        fflush(stderr);
        *(volatile int *)0 = 0;
    }
    if (hang && !strcmp(hang, name))
        for (;;) sleep(1);
    size_t length = strlen(name);
    if (fail && !strncmp(fail, name, length) && fail[length] == ':') {
        int code = 0, from = 1;
        sscanf(fail + length, ":%d:%d", &code, &from);
        if (++calls_of_failing >= from) return code;
    }
    return 0;
}

#define ENTER(...)                                        \
    char arguments[512];                                  \
    snprintf(arguments, sizeof arguments, __VA_ARGS__);   \
    int told = enter(__func__, arguments);                \
    if (told) return told
#define NEEDS_CONTEXT \
    if (!is_initialised || !is_retained || !is_current) return INVALID_CONTEXT

int cuInit(unsigned flags) { ENTER("%u", flags); is_initialised = 1; return 0; }
int cuDriverGetVersion(int *version) { ENTER(""); *version = 12040; return 0; }
int cuDeviceGetCount(int *count) {
    ENTER("");
    *count = getenv("RECORDER_NO_DEVICE") ? 0 : 1;
    return is_initialised ? 0 : 3;
}
int cuDeviceGet(int *device, int ordinal) { ENTER("%d", ordinal); *device = 7; return ordinal ? 101 : 0; }
int cuDeviceGetName(char *name, int length, int device) {
    ENTER("%d", device);
    snprintf(name, (size_t)length, "recorder, not a GPU");
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    ENTER("%d, %d", attribute, device);
    const char *text = getenv("RECORDER_CAPABILITY");
    int capability = text ? atoi(text) : 80;
    *value = attribute == 75 ? capability / 10 : attribute == 76 ? capability % 10 : -1;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    ENTER("%d", device);
    *context = &is_retained;
    is_retained++;
    return device == 7 ? 0 : 101;
}
int cuDevicePrimaryCtxRelease_v2(int device) { ENTER("%d", device); is_retained--; return 0; }
int cuCtxSetCurrent(void *context) { ENTER(""); is_current = context == &is_retained; return 0; }
int cuCtxSynchronize(void) { ENTER(""); NEEDS_CONTEXT; return 0; }

int cuModuleLoadDataEx(void **module, const char *image, unsigned count, const int *options, void **values) {
    ENTER("%zu bytes, %u options", strlen(image), count);
    NEEDS_CONTEXT;
    for (unsigned i = 0; i < count; i++)
        if (options[i] == 5 && strstr(image, "mystery")) {
            snprintf(values[i], 100, "ptxas: line 1; error: no instruction 'mystery'");
            return 218;
        }
    const char *newest = getenv("RECORDER_PTX"), *version = strstr(image, ".version ");
    if (newest && version && atof(version + 9) > atof(newest)) return 222;
    Module *made = malloc(sizeof *made);
    made->text = strdup(image);
    made->loaded = 1;
    *module = made;
    return 0;
}
int cuModuleUnload(Module *module) {
    ENTER("");
    NEEDS_CONTEXT;
    if (!module->loaded) return INVALID_HANDLE;
    module->loaded = 0;
    return 0;
}
int cuModuleGetFunction(void **function, Module *module, const char *name) {
    ENTER("%s", name);
    NEEDS_CONTEXT;
    if (!strstr(module->text, name)) return 500;
    Function *made = malloc(sizeof *made);
    made->module = module;
    snprintf(made->entry, sizeof made->entry, "%s", name);
    *function = made;
    return 0;
}
int cuFuncSetAttribute(void *function, int attribute, int value) {
    ENTER("%d, %d", attribute, value);
    NEEDS_CONTEXT;
    return 0;
}

int cuMemAlloc_v2(Address *address, size_t size) {
    ENTER("%zu", size);
    NEEDS_CONTEXT;
    if (!size) return INVALID_VALUE;
    for (int i = 0; i < ALLOCATIONS; i++)
        if (!live[i].host) {
            live[i].host = aligned_alloc(256, (size + 255) / 256 * 256);
            live[i].size = size;
            *address = (Address)(uintptr_t)live[i].host + OFFSET;
            return 0;
        }
    return 2;
}
int cuMemFree_v2(Address address) {
    ENTER("");
    NEEDS_CONTEXT;
    for (int i = 0; i < ALLOCATIONS; i++)
        if (live[i].host && (Address)(uintptr_t)live[i].host + OFFSET == address) {
            free(live[i].host);
            live[i].host = NULL;
            return 0;
        }
    return INVALID_VALUE;
}
static uint8_t *checked(Address address, size_t size) {
    size_t left = 0;
    uint8_t *host = recorder_host(address, &left);
    return host && size <= left ? host : NULL;
}
int cuMemsetD8_v2(Address address, unsigned char value, size_t size) {
    ENTER("%u, %zu", value, size);
    NEEDS_CONTEXT;
    uint8_t *host = checked(address, size);
    if (host) memset(host, value, size);
    return host ? 0 : INVALID_VALUE;
}
int cuMemcpyHtoD_v2(Address address, const void *from, size_t size) {
    ENTER("%zu", size);
    NEEDS_CONTEXT;
    uint8_t *host = checked(address, size);
    if (host) memcpy(host, from, size);
    return host ? 0 : INVALID_VALUE;
}
int cuMemcpyDtoH_v2(void *to, Address address, size_t size) {
    ENTER("%zu", size);
    NEEDS_CONTEXT;
    uint8_t *host = checked(address, size);
    if (host) memcpy(to, host, size);
    return host ? 0 : INVALID_VALUE;
}

int cuEventCreate(void **event, unsigned flags) { ENTER("%u", flags); NEEDS_CONTEXT; *event = malloc(1); return 0; }
int cuEventRecord(void *event, void *stream) { ENTER(""); NEEDS_CONTEXT; return stream ? INVALID_HANDLE : 0; }
int cuEventElapsedTime(float *milliseconds, void *from, void *to) {
    ENTER("");
    NEEDS_CONTEXT;
    *milliseconds = 0.0125f;
    return from == to ? INVALID_HANDLE : 0;
}
int cuEventDestroy_v2(void *event) { ENTER(""); NEEDS_CONTEXT; free(event); return 0; }

static void spill(Address tensor) {
    const char *text = getenv("RECORDER_SPILL");
    size_t left = 0;
    uint8_t *host = recorder_host(tensor, &left);
    if (text && host) memset(host + left - 256, 0, (size_t)atoi(text)); /* the last 256 bytes are the guard */
}
static unsigned pointers(const char *text, const char *entry) {
    unsigned count = 0;
    const char *at = strstr(text, entry), *end = at ? strchr(at, ')') : NULL;
    while (at && (at = strstr(at, ".param")) && at < end) count++, at++;
    return count;
}
int cuLaunchKernel(Function *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    ENTER("%s, grid %u %u %u, block %u %u %u, %u", function->entry, gx, gy, gz, bx, by, bz, shared);
    NEEDS_CONTEXT;
    if (stream || extra || !function->module->loaded) return INVALID_HANDLE;
    if (!gx || !gy || !gz || !bx || !by || !bz || bx * by * bz > 1024) return INVALID_VALUE;
    unsigned count = pointers(function->module->text, function->entry);
    for (unsigned i = 0; i < count; i++) {
        Address tensor = *(Address *)parameters[i];
        if (!recorder_host(tensor, NULL) || tensor % 256) return ILLEGAL_ADDRESS;
        spill(tensor);
    }
    unsigned geometry[6] = {gx, gy, gz, bx, by, bz};
    if (on_launch) on_launch(function->module->text, function->entry, geometry, shared, parameters);
    return 0;
}

int cuGetErrorName(int code, const char **name) {
    *name = code == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY"
          : code == 100 ? "CUDA_ERROR_NO_DEVICE" : code == 222 ? "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"
          : code == 209 ? "CUDA_ERROR_NO_BINARY_FOR_GPU" : code == 218 ? "CUDA_ERROR_INVALID_PTX" : NULL;
    return *name ? 0 : INVALID_VALUE;
}
int cuGetErrorString(int code, const char **text) {
    *text = code == 700 ? "an illegal memory access was encountered" : code == 2 ? "out of memory" : NULL;
    return *text ? 0 : INVALID_VALUE;
}
